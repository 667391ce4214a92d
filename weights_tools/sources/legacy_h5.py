"""A `.h5` file of weights from before Keras 3, which has them in the model's order."""

from __future__ import annotations

from weights_tools.formats import FormatError, TensorFile
from weights_tools.formats.hdf5_format import Hdf5Tensors

# Where a file of a whole model has its weights.
_WEIGHTS = "model_weights"


def is_legacy_h5(file: TensorFile) -> bool:
    """Whether an open file is one of Keras's from before version 3.

    Args:
        file: The open file.
    """
    told = {"keras_version", "backend"} <= file.metadata.keys()
    return told and isinstance(file, Hdf5Tensors)


def layer_weights(file: Hdf5Tensors) -> list[list[str]]:
    """Names of the tensors of each layer that has weights, in the model's order.

    The names alone do not tell the order: Keras made them up from a counter, and HDF5
    sorts them.

    Args:
        file: The open file.

    Returns:
        For each layer the names of its tensors in the file.

    Raises:
        FormatError: If the file is damaged or does not tell the order.
    """
    root = _WEIGHTS if _WEIGHTS in file.groups else ""
    layers = []
    for layer in _listed(file, root, "layer_names"):
        group = f"{root}/{layer}".removeprefix("/")
        if group not in file.groups:
            raise FormatError(
                file.path, f"names a layer that is not there: {layer!r:.80}"
            )
        names = _listed(file, group, "weight_names")
        if names:
            layers.append([f"{group}/{name}" for name in names])
    return layers


def _listed(file: Hdf5Tensors, group: str, name: str) -> list[str]:
    """A list of names, which Keras cuts into numbered pieces where it is long."""
    texts = file.texts(group)
    names = texts.get(name)
    if isinstance(names, list):
        return names
    found: list[str] = []
    for piece in range(len(texts)):
        names = texts.get(f"{name}{piece}")
        found += names if isinstance(names, list) else []
    return found
