"""What is in a checkpoint, without loading it."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from weights_tools.checkpoint import Component
from weights_tools.opening import open_source


@dataclass(frozen=True)
class PartInspection:
    """One model in a source.

    Args:
        kind: `"unet"`, `"vae"` or `"text_encoder"`.
        layout: Name of its layout.
        path: The file it is in.
        video: Whether it has temporal parts.
        parameters: Number of parameters.
        temporal_parameters: How many of them are temporal.
        dtypes: Number of parameters of each dtype.
        config: Arguments of our class, those of its architecture.
    """

    kind: str
    layout: str
    path: str
    video: bool
    parameters: int
    temporal_parameters: int
    dtypes: dict[str, int]
    config: dict[str, Any]


class Inspection(dict[str, PartInspection]):
    """A `PartInspection` of each part of a source.

    Args:
        parts: The parts.
        left_out: What the source holds and no model of ours has a place for.
    """

    def __init__(self, parts: Mapping[str, PartInspection], left_out: tuple[str, ...]):
        super().__init__(parts)
        self.left_out = left_out


def inspect(
    source: str | os.PathLike[str] | keras.Model,
    *,
    variant: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Inspection:
    """Tell the layout and the content of a source; only headers are read.

    Args:
        source: A file, a folder, `hf://owner/name[@revision]`, or a live model.
        variant: `"fp16"` prefers files of this variant in a diffusers folder.
        overrides: Arguments of `UNetPseudo3D` that are known better than the source
            tells.

    Returns:
        A `PartInspection` of each part: `"unet"`, `"vae"`, `"text_encoder"`,
        `"image_unet"`. Its attribute `left_out` lists what else is in the source.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: It is damaged or no model that we know.

    Example:
    ```python
    inspect("sd-v1-5-inpainting.ckpt")["unet"].config["in_channels"]  # 9
    ```
    """
    with open_source(source, variant, overrides) as opened:
        parts = {part: _inspected(c) for part, c in opened.components.items()}
        return Inspection(parts, opened.left_out)


def _inspected(component: Component) -> PartInspection:
    sizes = {p: math.prod(s.shape) for p, s in component.weights.specs.items()}
    dtypes: Counter[str] = Counter()
    for path, spec in component.weights.specs.items():
        dtypes[spec.dtype] += sizes[path]
    return PartInspection(
        kind=component.kind,
        layout=component.layout,
        path=str(component.path),
        video=component.is_video,
        parameters=sum(sizes.values()),
        temporal_parameters=sum(n for p, n in sizes.items() if "temporal" in p),
        dtypes=dict(dtypes),
        config=component.arguments,
    )
