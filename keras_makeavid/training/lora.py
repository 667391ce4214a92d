"""Low-rank adapters on attention (Hu et al., 2021)."""

import re
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.files import StrPath
from keras_makeavid.layers import Attention

ADAPTER_WEIGHT = "lora_kernel"


def add_lora(
    model: keras.Model, rank: int, alpha: float, layers: str = "attn", seed: int = 0
) -> int:
    """Put adapters on q, k, v and output of attentions, and count these layers.

    The model computes the same until they train. Saving it saves the merged kernels.

    Args:
        model: A built model, such as `UNetPseudo3D`, without adapters.
        rank: Rank of the adapters.
        alpha: The adapters' output is scaled by `alpha / rank`.
        layers: Regular expression, searched for in the path of each attention, such as
            `"attn_temporal"`. If none matches, it is a `ValueError`.
        seed: Seed of the adapters' first values.

    Example:
    ```python
    unet = UNetPseudo3D(block_channels=(32, 64), attention_levels=(True, False))
    add_lora(unet, rank=4, alpha=4.0)
    set_trainable(unet, "lora")
    save_lora(unet, "style.safetensors", form="kohya")  # 72
    ```
    """
    projections = [
        projection
        for layer in matching_attentions(model, layers)
        for projection in (layer.to_q, layer.to_k, layer.to_v, layer.to_out)
    ]
    for number, projection in enumerate(projections):
        projection.enable_lora(
            rank,
            lora_alpha=alpha,
            # Without a seed of their own they would begin elsewhere in each process.
            a_initializer=keras.initializers.HeUniform(seed=seed + number),
        )
    return len(projections)


def matching_attentions(model: keras.Model, layers: str) -> list[Attention]:
    """The attentions whose path a regular expression is found in."""
    attentions = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, Attention) and re.search(layers, layer.path)
    ]
    if not attentions:
        raise ValueError(f"No attention's path matches layers={layers!r}")
    return attentions


def has_lora(model: keras.Model) -> bool:
    """Whether any layer of the model has an adapter."""
    return any(ADAPTER_WEIGHT in variable.path for variable in model.variables)


def save_lora(model: keras.Model, path: StrPath, form: str = "diffusers") -> int:
    """Write a UNet's adapters to a file that `TextToVideo.load_lora` takes.

    Other programs take those of spatial layers; they have no layers over frames.

    Args:
        model: A `UNetPseudo3D` that has adapters by `add_lora`.
        path: The file, `.safetensors`; what is there is replaced.
        form: `"diffusers"` or `"kohya"`, of names and of where alpha stands.

    Returns:
        The number of layers with adapters; none is a `ValueError`.
    """
    from weights_tools.architectures import variables_of
    from weights_tools.lora import LowRank, write_lora

    paths = {id(variable): name for name, variable in variables_of(model).items()}
    pairs = {}
    for layer in model._flatten_layers(include_self=False):
        if getattr(layer, "lora_enabled", False):
            down, up = (
                np.ascontiguousarray(ops.convert_to_numpy(kernel).T)
                for kernel in (layer.lora_kernel_a, layer.lora_kernel_b)
            )
            pairs[paths[id(layer._kernel)]] = LowRank(down, up, layer.lora_alpha)
    if not pairs:
        raise ValueError("The model has no adapters: `add_lora` adds them")
    write_lora(path, {"unet": pairs}, form)
    return len(pairs)


def without_lora(model: keras.Model) -> keras.Model:
    """A copy of a built model, its adapters merged into the kernels if it has any."""
    merged = type(model).from_config(model.get_config())
    pairs = zip(
        model._flatten_layers(include_self=False),
        merged._flatten_layers(include_self=False),
        strict=True,
    )
    for old, new in pairs:
        # The form in which Keras saves a layer: there adapters are merged.
        values: dict[str, Any] = {}
        old.save_own_variables(values)
        if values:
            # Both may train: JAX donates the buffers of each to its step.
            new.load_own_variables({key: ops.copy(v) for key, v in values.items()})
    return merged
