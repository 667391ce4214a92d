"""What a recipe takes of a TPU, by its compiler, with no TPU present.

Parts are imported when they are first used, which names of topologies do not need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__all__ = [
    "Plan",
    "Sizes",
    "Topology",
    "find_topology",
    "plan_as_json",
    "plan_lines",
    "plan_sampling",
    "plan_training",
    "roofline",
]

if TYPE_CHECKING:
    from keras_makeavid.planning.plan import (
        Plan,
        plan_as_json,
        plan_lines,
        plan_sampling,
        plan_training,
        roofline,
    )
    from keras_makeavid.planning.programs import Sizes
    from keras_makeavid.planning.topology import Topology, find_topology


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "topology" if name in ("Topology", "find_topology") else "plan"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
