"""What a recipe takes of a TPU, by its compiler, with no TPU present."""

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
