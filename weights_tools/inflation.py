"""An image model to a video model of the same function (see docs/model.md).

`weights_tools.inflate` opens and saves checkpoints around it.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import replace

import numpy as np

from weights_tools.checkpoint import KERNEL_IN, Component
from weights_tools.formats import TensorFile, TensorSpec


def inflated(component: Component) -> Component:
    """Give an image UNet its temporal parts and the channels of an inpainting model.

    Temporal convolutions start as the identity and temporal attention's output
    projection at zero, so that a still video gives the image model's output in each
    frame. A model of noisy latents alone gets zero weights for mask and hint.
    """
    if component.kind != "unet":
        raise ValueError(f"Only a UNet can be inflated. Received: {component.kind}")
    if component.is_video:
        raise ValueError(
            f"{component.path} is a video model already: convert it instead"
        )
    return _with_temporal_parts(_for_inpainting(component))


def _with_temporal_parts(component: Component) -> Component:
    arguments = {**component.arguments, "temporal": True}
    component = replace(component, arguments=arguments)
    weights = component.weights
    dtype = weights.specs[KERNEL_IN].dtype
    specs = {
        path: weights.specs.get(path) or TensorSpec(shape, dtype)
        for path, shape in component.shapes.items()
    }

    def read(path):
        if path in weights.specs:
            return weights.read(path)
        value = _temporal_start(path, specs[path].shape)
        return value.astype(specs[path].numpy_dtype, copy=False)

    return replace(component, weights=TensorFile(component.path, specs, read))


def _temporal_start(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Value with which a temporal variable starts, float32.

    Kernels are Dirac's, output projections zero, norms one and zero; queries, keys and
    values are Glorot uniform, seeded by their path.
    """
    if path.endswith("gamma"):
        return np.ones(shape, "float32")
    if path.endswith("temporal_conv/kernel"):
        kernel = np.zeros(shape, "float32")
        kernel[1] = np.eye(shape[1], shape[2])
        return kernel
    if path.endswith(("to_q/kernel", "to_k/kernel", "to_v/kernel")):
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
