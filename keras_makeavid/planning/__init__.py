"""What a recipe takes of a TPU, by its compiler, with no TPU present.

Its parts are imported when they are first used: the names of topologies are checked
before Keras and its backend are there.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_MEMBERS = {
    "Plan": "plan",
    "Sizes": "programs",
    "Topology": "topology",
    "find_topology": "topology",
    "plan_as_json": "report",
    "plan_lines": "report",
    "plan_sampling": "plan",
    "plan_training": "plan",
}

__all__ = [
    "Plan",
    "Sizes",
    "Topology",
    "find_topology",
    "plan_as_json",
    "plan_lines",
    "plan_sampling",
    "plan_training",
]

if TYPE_CHECKING:
    from keras_makeavid.planning.plan import Plan, plan_sampling, plan_training
    from keras_makeavid.planning.programs import Sizes
    from keras_makeavid.planning.report import plan_as_json, plan_lines
    from keras_makeavid.planning.topology import Topology, find_topology


def __getattr__(name: str):
    if name in _MEMBERS:
        module = importlib.import_module(f"keras_makeavid.planning.{_MEMBERS[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'keras_makeavid.planning' has no attribute {name!r}")
