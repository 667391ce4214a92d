"""What is in a checkpoint, and whether two are the same function."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.compilation import compile_inference
from keras_makeavid.files import StrPath
from keras_makeavid.models.unet_pseudo3d import MOTION_MODULES
from weights_tools.architectures import KERNEL_IN
from weights_tools.checkpoint import MOTION, Component
from weights_tools.configs import motion_version
from weights_tools.opening import open_source

_FRAMES = 3


@dataclass(frozen=True)
class PartInspection:
    """One model in a source: its kind, layout and file, and if it has temporal parts.

    The `dtypes` are numbers of parameters by dtype, and `config` arguments of our
    class. `motion` is the version of AnimateDiff that its motion modules have, if any:
    `"v1"`, `"v2"` (AnimateLCM and Lightning too) or `"v3"`.
    """

    kind: str
    layout: str
    path: str
    video: bool
    parameters: int
    temporal_parameters: int
    dtypes: dict[str, int]
    config: dict[str, Any]
    motion: str | None = None


class Inspection(dict[str, PartInspection]):
    """A `PartInspection` of each part of a source.

    Its `left_out` is what the source holds and no model of ours has a place for.
    """

    def __init__(self, parts: Mapping[str, PartInspection], left_out: tuple[str, ...]):
        super().__init__(parts)
        self.left_out = left_out


def inspect(
    source: StrPath | keras.Model,
    *,
    variant: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Inspection:
    """Tell the layout and the content of a source; only headers are read.

    There is a `PartInspection` of each part: `"unet"`, `"vae"`, `"text_encoder"`,
    `"image_unet"`, `"tiny_vae"`, `"motion"` (motion modules alone). The attribute
    `left_out` lists what else there is. For arguments and errors see `open_source`.

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
    arguments = component.arguments
    has_modules = component.is_video and arguments.get("temporal") == MOTION_MODULES
    return PartInspection(
        kind=component.kind,
        layout=component.layout,
        path=str(component.path),
        video=component.is_video,
        parameters=sum(sizes.values()),
        temporal_parameters=sum(n for p, n in sizes.items() if "temporal" in p),
        dtypes=dict(dtypes),
        config=arguments,
        motion=motion_version(arguments) if has_modules else None,
    )


@dataclass(frozen=True)
class PartComparison:
    """One part of two sources.

    Args:
        tensors: Largest absolute difference of each weight that both have, by the path
            of our variable; infinite where the shapes differ.
        only_first: Paths of weights that only the first has.
        only_second: Paths of weights that only the second has.
        forward: Largest absolute difference of outputs for one fixed input, float32;
            infinite where there is only one model.
    """

    tensors: dict[str, float]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    forward: float

    @property
    def max_error(self) -> float:
        """The largest difference, of weights or in the forward pass."""
        return max([self.forward, *self.tensors.values()])


def verify(
    first: StrPath | keras.Model,
    second: StrPath | keras.Model,
    *,
    part: str | None = None,
    variant: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, PartComparison]:
    """Compare two sources: weight by weight, and by a forward pass of each model.

    An image model and a video model are compared by an image and a still video of
    it. A model of noisy latents alone and an inpainting model are compared with mask
    and hint that the first does not see. Each part that either has is compared, or the
    `part` given, such as `"unet"`. Sources and the rest are as for `open_source`, but
    `overrides` and the `variant` `"ema"`, which are of `first` alone, or none would
    differ. A part that one lacks, or none in common, is a `ValueError`.

    Example:
    ```python
    verify("stable-diffusion-inpainting", "video_preset")["unet"].max_error
    ```
    """
    with (
        open_source(first, variant, overrides) as a,
        open_source(second, None if variant == "ema" else variant) as b,
    ):
        if part is not None:
            pair = a.component(part), b.component(part)
            return {part: _compare(*pair)}
        parts = {**a.components, **b.components}
        if not a.components.keys() & b.components.keys():
            raise ValueError(
                "The sources have no part in common. Received: "
                f"{sorted(a.components)} and {sorted(b.components)}"
            )
        return {p: _compare(a.components.get(p), b.components.get(p)) for p in parts}


def _compare(a: Component | None, b: Component | None) -> PartComparison:
    first, second = (c.weights.specs if c else {} for c in (a, b))
    if a is None or b is None:
        return PartComparison({}, tuple(first), tuple(second), math.inf)
    tensors = {p: _difference(a, b, p) for p in first if p in second}
    only_first = tuple(p for p in first if p not in second)
    only_second = tuple(p for p in second if p not in first)
    same_architecture = all(map(math.isfinite, tensors.values())) and all(
        "temporal" in path for path in only_first + only_second
    )
    forward = _forward_difference(a, b) if same_architecture else math.inf
    return PartComparison(tensors, only_first, only_second, forward)


def _difference(a, b, path) -> float:
    x, y = (c.weights.read(path).astype("float32") for c in (a, b))
    if path == KERNEL_IN and x.shape[2] != y.shape[2]:
        # Channels that one does not have are zero weights of the other.
        channels = max(x.shape[2], y.shape[2])
        zeros = np.zeros((*x.shape[:2], channels, x.shape[3]), "float32")
        x, y = (np.concatenate([v, zeros[:, :, v.shape[2] :]], 2) for v in (x, y))
    if x.shape != y.shape:
        return math.inf
    return _max_difference(x, y)


def _forward_difference(a: Component, b: Component) -> float:
    if MOTION in (a.part, b.part):
        # Modules alone are no function of an image or a video.
        return 0.0
    # One after the other: two full-size models need not fit into memory at once.
    x, y = (_forward(component, _input(a, b)) for component in (a, b))
    # Each frame of a video is compared with the image.
    pairs = (x, y), (y, x)
    x, y = (v if v.ndim >= other.ndim else v[:, None] for v, other in pairs)
    return _max_difference(x, y)


def _max_difference(x, y) -> float:
    # NaN differs from everything: it must not hide behind a comparison.
    difference = np.max(np.abs(x - y), initial=0.0)
    return math.inf if np.isnan(difference) else float(difference)


def _input(a: Component, b: Component) -> Any:
    """What both models are given; an image model takes the first frame."""
    random = np.random.default_rng(0)
    sizes = a.arguments
    if a.kind == "text_encoder":
        shape: tuple[int, ...] = (2, sizes["max_sequence_length"])
        return {"token_ids": random.integers(0, sizes["vocabulary_size"], shape)}
    side = 2 ** len(sizes.get("block_channels") or sizes["encoder_blocks"])
    if a.kind.endswith("vae"):
        shape = (1, side, side, sizes["in_channels"])
        return random.uniform(-1, 1, shape).astype("float32")
    channels = max(c.arguments["in_channels"] for c in (a, b))
    both_video = a.is_video and b.is_video
    shape = (1, _FRAMES if both_video else 1, side, side, channels)
    sample = random.standard_normal(shape, "float32")
    if not both_video:
        # A still video is what an image model and its inflation have in common.
        sample = np.repeat(sample, _FRAMES, axis=1)
    context = random.standard_normal((1, 7, sizes["context_dim"]), "float32")
    return {"sample": sample, "timesteps": np.array([500]), "context": context}


def _forward(component: Component, inputs) -> np.ndarray:
    model = component.make_model("float32")
    if component.kind == "unet":
        sample = inputs["sample"][..., : component.arguments["in_channels"]]
        inputs = {**inputs, "sample": sample if component.is_video else sample[:, 0]}
    # As one program: JAX would compile each operation of each shape by itself.
    run = compile_inference(model, [model])
    output = run(keras.tree.map_structure(ops.convert_to_tensor, inputs))
    return ops.convert_to_numpy(ops.cast(output, "float32"))
