"""A `.h5` file of weights from before Keras 3, which has them in the model's order."""

from __future__ import annotations

from pathlib import Path

from weights_tools.containers import ContainerError, TensorFile
from weights_tools.containers.hdf5_file import (
    ATTRIBUTE,
    SYMBOL_TABLE,
    Hdf5Error,
    Hdf5File,
    Message,
)
from weights_tools.containers.hdf5_messages import parse_attribute, text_elsewhere
from weights_tools.containers.mapped_file import MappedFile

# Where a file of a whole model has its weights.
_WEIGHTS = "model_weights"


def is_legacy_h5(file: TensorFile) -> bool:
    """Whether an open file is one of Keras's from before version 3.

    Args:
        file: the open file.
    """
    return {"keras_version", "backend"} <= file.metadata.keys()


def layer_weights(path: Path) -> list[list[str]]:
    """Names of the tensors of each layer that has weights, in the model's order.

    The names alone do not tell the order: Keras made them up from a counter, and HDF5
    sorts them.

    Args:
        path: the file.

    Returns:
        For each layer the names of its tensors in the file.

    Raises:
        ContainerError: if the file is damaged or does not tell the order.
    """
    hdf5 = Hdf5File(MappedFile(path))
    try:
        return _layer_weights(hdf5)
    except Hdf5Error as error:
        raise ContainerError(path, str(error)) from error


def _layer_weights(hdf5: Hdf5File) -> list[list[str]]:
    attributes, members = _group(hdf5, hdf5.root())
    prefix = ""
    if _WEIGHTS in members:
        attributes, members = _group(hdf5, members[_WEIGHTS])
        prefix = f"{_WEIGHTS}/"
    layers = []
    for layer in _listed(attributes, "layer_names"):
        if layer not in members:
            raise Hdf5Error(f"names a layer that is not there: {layer!r:.80}")
        names = _listed(_group(hdf5, members[layer])[0], "weight_names")
        if names:
            layers.append([f"{prefix}{layer}/{name}" for name in names])
    return layers


def _group(hdf5, address) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Lists of texts that are a group's attributes, and its members."""
    messages = hdf5.messages(address)
    attributes: dict[str, list[str]] = {}
    for message in messages:
        if message.kind == ATTRIBUTE:
            attributes.update(_texts(hdf5, message))
    tables = [message.body for message in messages if message.kind == SYMBOL_TABLE]
    members = {name: at for table in tables for name, at in hdf5.links(table)}
    return attributes, members


def _texts(hdf5: Hdf5File, message: Message) -> dict[str, list[str]]:
    attribute = parse_attribute(message.body)
    if attribute is None or len(attribute.shape) != 1:
        return {}
    # An empty list is one of numbers for Keras.
    if attribute.dtype not in ("text", "text elsewhere"):
        return {}
    (count,), size = attribute.shape, attribute.itemsize
    if not 0 < count * size <= len(attribute.value):
        raise Hdf5Error("is damaged: an attribute ends too early")
    texts = [attribute.value[i * size :][:size] for i in range(count)]
    if attribute.dtype == "text elsewhere":
        texts = [text_elsewhere(hdf5, text) for text in texts]
    try:
        name = attribute.name.decode()
        return {name: [text.rstrip(b"\0").decode() for text in texts]}
    except UnicodeDecodeError as error:
        raise Hdf5Error("has a name that is not in UTF-8") from error


def _listed(attributes, name) -> list[str]:
    """A list of names, which Keras cuts into numbered pieces where it is long."""
    if name in attributes:
        return attributes[name]
    pieces = []
    while f"{name}{len(pieces)}" in attributes:
        pieces.append(attributes[f"{name}{len(pieces)}"])
    return [text for piece in pieces for text in piece]
