"""An image model to a video model (see docs/model.md and docs/animatediff.md).

`weights_tools.inflate` opens and saves checkpoints around it.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from keras_makeavid.layers.motion_module import sinusoids
from keras_makeavid.models.unet_pseudo3d import MOTION_MODULES
from weights_tools.architectures import complete
from weights_tools.checkpoint import KERNEL_IN, Component
from weights_tools.formats import TensorFile, TensorSpec

_DRAWN = re.compile(
    r"to_[qkv]/kernel$|temporal_modules.*(to_out|proj_in|ff/proj_out)/kernel$"
)


def inflated(
    component: Component, motion: Component | Mapping[str, Any] | None = None
) -> Component:
    """Give an image UNet its temporal parts.

    With no `motion` these are pseudo-3D convolutions, which start as the identity, and
    temporal attention, whose output projection starts at zero, so that a still video
    gives the image model's output in each frame. A model of noisy latents alone gets
    the channels of an inpainting model, with zero weights for mask and hint.

    With `motion` they are motion modules: those of that component, or new ones with
    these arguments, whose output projection starts at zero. Channels stay as they are.
    """
    if component.kind != "unet":
        raise ValueError(f"Only a UNet can be inflated. Received: {component.kind}")
    if component.is_video:
        raise ValueError(
            f"{component.path} is a video model already: convert it instead"
        )
    if motion is None:
        return _with_temporal_parts(_for_inpainting(component), {"temporal": True})
    if not isinstance(motion, Component):
        return _with_temporal_parts(component, motion)
    return _with_temporal_parts(
        component, _motion_arguments(component, motion), motion.weights
    )


def _motion_arguments(component: Component, motion: Component) -> dict[str, Any]:
    """The arguments of motion modules that fit between the parts of an image UNet."""
    if motion.arguments["temporal"] != MOTION_MODULES or not motion.is_video:
        raise ValueError(f"{motion.path} holds no motion modules")
    for key in ("block_channels", "layers_per_block"):
        received, expected = motion.arguments[key], component.arguments[key]
        if received != expected:
            raise ValueError(
                f"Motion modules for {component.path} must have {key}={expected}. "
                f"Received: {received}, of {motion.path}"
            )
    return {
        key: value
        for key, value in motion.arguments.items()
        if key not in component.arguments or key == "temporal"
    }


def _with_temporal_parts(
    component: Component, told: Mapping[str, Any], temporal: TensorFile | None = None
) -> Component:
    arguments = complete("unet", {**component.arguments, **told})
    component = replace(component, arguments=arguments)
    weights = component.weights
    held = temporal.specs if temporal else {}
    dtype = weights.specs[KERNEL_IN].dtype
    specs = {
        path: weights.specs.get(path) or held.get(path) or TensorSpec(shape, dtype)
        for path, shape in component.shapes.items()
    }

    def read(path):
        if path in weights.specs:
            return weights.read(path)
        if temporal and path in held:
            return temporal.read(path)
        value = _temporal_start(path, specs[path].shape)
        return value.astype(specs[path].numpy_dtype, copy=False)

    return replace(component, weights=TensorFile(component.path, specs, read))


def _temporal_start(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Value with which a temporal variable starts, float32.

    Convolutions are Dirac's, the last projection zero, norms one and zero; what is
    within motion modules, and queries, keys and values, are Glorot uniform, seeded by
    their path.
    """
    if path.endswith("embeddings"):
        return sinusoids(*shape)
    if path.endswith("gamma"):
        return np.ones(shape, "float32")
    if path.endswith("temporal_conv/kernel"):
        kernel = np.zeros(shape, "float32")
        kernel[1] = np.eye(shape[1], shape[2])
        return kernel
    if _DRAWN.search(path):
        limit = math.sqrt(6 / sum(shape))
        random = np.random.default_rng(zlib.crc32(path.encode()))
        return random.uniform(-limit, limit, shape).astype("float32")
    return np.zeros(shape, "float32")


def _for_inpainting(component: Component) -> Component:
    latent = component.arguments["out_channels"]
    inpainting = 2 * latent + 1
    received = component.arguments["in_channels"]
    if received == inpainting:
        return component
    if received != latent:
        raise ValueError(
            f"The UNet must take {latent} channels (latents) or {inpainting} (latents, "
            f"mask and hint). Received: {received}"
        )
    return component.with_channels(inpainting)
