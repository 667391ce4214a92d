"""One model's weights in a source, with its architecture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weights_tools.autoencoder_config import autoencoder_arguments
from weights_tools.config import unet_arguments
from weights_tools.configuration import architecture, read_config, reading
from weights_tools.formats import FormatError, TensorFile
from weights_tools.inference import infer_arguments
from weights_tools.kinds import complete, shapes_of
from weights_tools.layouts import LAYOUTS, Layout
from weights_tools.text_encoder_config import text_encoder_arguments
from weights_tools.weights import Weights, weights_from_file

_METADATA = "makeavid_config"

_ARGUMENTS = {
    "unet": unet_arguments,
    "vae": autoencoder_arguments,
    "text_encoder": text_encoder_arguments,
}


@dataclass(frozen=True)
class Component:
    """One model in a source.

    Args:
        kind: `"unet"`, `"vae"` or `"text_encoder"`.
        layout: name of the layout that it comes in.
        arguments: arguments of our class.
        weights: its weights; those that the layout does not hold are missing.
        path: where it comes from, for messages.
    """

    kind: str
    layout: str
    arguments: dict[str, Any]
    weights: Weights
    path: Path

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all variables that the model has, held here or not."""
        return shapes_of(self.kind, self.arguments)

    @property
    def is_video(self) -> bool:
        """Whether it has temporal parts."""
        return any("temporal" in path for path in self.weights.specs)


def find_layouts(file: TensorFile) -> list[tuple[Layout, str]]:
    """The layouts that a file is in, one for each model in it.

    Args:
        file: the open file.

    Returns:
        Pairs of layout and root, which stands before every name.
    """
    return [
        (layout, root)
        for layout in LAYOUTS
        for root in layout.roots
        if layout.tensor_name(layout.marker, root) in file.specs
    ]


def find_layout(
    file: TensorFile, kind: str | None = None, name: str | None = None
) -> tuple[Layout, str]:
    """The layout that a file of one model is in.

    Args:
        file: the open file.
        kind: kind of model that must be in it; `None` if any.
        name: name of the layout that it must be; `None` if any.

    Raises:
        FormatError: if there is none, or more than one such model.
    """
    found = [
        pair
        for pair in find_layouts(file)
        if kind in (None, pair[0].kind) and name in (None, pair[0].name)
    ]
    if len(found) != 1:
        wanted = " ".join(filter(None, (name, kind or "known model")))
        names = list(file.specs)
        raise FormatError(
            file.path,
            f"must hold one {wanted}. Received: {len(found)} of them, in "
            f"{len(names)} tensors such as {', '.join(names[:5]) or 'none'}",
        )
    return found[0]


def component_from_file(
    file: TensorFile, layout: Layout, root: str, arguments: Mapping[str, Any]
) -> Component:
    """See one of the models in a file.

    Args:
        file: the open file.
        layout: layout of the model.
        root: what stands before every name.
        arguments: arguments of our class; those left out have its defaults.

    Raises:
        ValueError: if the arguments make no sense, or the tensors do not fit them.
    """
    arguments = complete(layout.kind, arguments)
    shapes = shapes_of(layout.kind, arguments)
    weights = weights_from_file(file, layout, root, shapes)
    return Component(layout.kind, layout.name, arguments, weights, file.path)


def arguments_of(
    file: TensorFile,
    layout: Layout,
    root: str,
    config: Path | None,
    overrides: Mapping[str, Any],
) -> dict[str, Any]:
    """Arguments of our class for one of the models in a file.

    Args:
        file: the open file.
        layout: layout of the model.
        root: what stands before every name.
        config: the `config.json` that comes with it, in the source's names; `None`
            reads the architecture off the tensors.
        overrides: arguments of the UNet that are known better.

    Raises:
        ValueError: if the configuration or the tensors are not supported.
    """
    kind = layout.kind
    told = arguments_in(file)
    if kind in told:
        with reading(file.path):
            arguments = complete(kind, told[kind])
    elif config is not None:
        theirs = architecture(read_config(config))
        with reading(config):
            arguments = complete(kind, _ARGUMENTS[kind](theirs))
    else:
        arguments = infer_arguments(file, layout, root)
    return arguments | overrides if kind == "unet" else arguments


def metadata_of(components: Iterable[Component]) -> dict[str, str]:
    """What a file of models shall say of itself: their arguments.

    Shapes tell neither the number of heads nor what is computed otherwise.

    Args:
        components: the models, of a kind each.
    """
    return {_METADATA: json.dumps({c.kind: c.arguments for c in components})}


def arguments_in(file: TensorFile) -> dict[str, dict[str, Any]]:
    """What `metadata_of` gave when a file was written, if it was.

    Args:
        file: the open file.

    Returns:
        Arguments by kind of model.

    Raises:
        FormatError: if it is no such thing.
    """
    with reading(file.path):
        told = json.loads(file.metadata.get(_METADATA, "{}"))
        if not isinstance(told, dict) or not all(
            isinstance(arguments, dict) for arguments in told.values()
        ):
            raise ValueError(f"{_METADATA} must map kinds to arguments")
        return told
