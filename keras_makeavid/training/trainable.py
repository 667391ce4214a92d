"""What trains of a model: which weights, and low-rank adapters (Hu et al., 2021)."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from keras_makeavid.files import StrPath
from keras_makeavid.layers.int8 import Int8Kernel

# The published training: temporal parameters first, then all.
_PATTERNS = {"temporal": r"temporal", "spatial": r"^(?!.*temporal)", "all": r""}
ADAPTER_WEIGHT = "lora_kernel"


def set_trainable(model: keras.Model, trainable: str) -> int:
    """Make layers trainable whose path matches, freeze the rest; count what trains.

    Frozen weights cost no gradient and no optimizer state. No others is a `ValueError`.

    Args:
        model: A built model, such as `UNetPseudo3D`.
        trainable: `"temporal"` (temporal convolutions, attentions and their norms),
            `"spatial"` (the others: those that an image passes), `"all"`, `"lora"`
            (only what `add_lora` added), or a regular expression that is searched for
            in the path of each layer, such as `"attn_temporal|up_blocks"`.

    Example:
    ```python
    unet = UNetPseudo3D(block_channels=(32, 64), attention_levels=(True, False))
    set_trainable(unet, "temporal")
    ```
    """
    if trainable == "lora":
        if not has_lora(model):
            raise ValueError("trainable='lora' needs the adapters that `add_lora` adds")
        chosen = [(v, ADAPTER_WEIGHT in v.path) for v in model.variables]
    else:
        chosen = list(matching_layers(model, trainable).items())
    # From the top down: setting a layer's flag sets those of the layers inside it.
    model.trainable = True
    for part, trains in chosen:
        part.trainable = trains
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def check_spatial(layers: dict[keras.layers.Layer, bool], trainable: str) -> None:
    """Refuse to train temporal layers on images, which do not pass them."""
    for layer, matches in layers.items():
        if matches and "temporal" in layer.path:
            raise ValueError(
                "Images pass no temporal layers, which cannot train on them. "
                f"Received: trainable={trainable!r}, which matches {layer.path}"
            )


def matching_layers(
    model: keras.Model, trainable: str
) -> dict[keras.layers.Layer, bool]:
    """The layers with weights of their own, each with whether it is to train."""
    try:
        pattern = re.compile(_PATTERNS.get(trainable, trainable))
    except re.error as error:
        raise ValueError(
            "trainable must be 'temporal', 'spatial', 'all', 'lora' or a regular "
            f"expression. Received: {trainable!r} ({error})"
        ) from error
    owners = {}
    for layer in model._flatten_layers(include_self=False):
        if layer._trainable_variables or layer._non_trainable_variables:
            owners[layer] = bool(pattern.search(layer.path))
    if not any(owners.values()):
        problem = f"No layer's path matches trainable={trainable!r}"
        raise ValueError(f"{problem}. Paths look like {next(iter(owners)).path!r}")
    return owners


def add_lora(
    model: keras.Model, rank: int, alpha: float, layers: str = "attn", seed: int = 0
) -> int:
    """Put adapters on dense and convolution layers, and count these layers.

    By default they are q, k, v and output of all attentions. The model computes the
    same until they train. Saving it saves the merged kernels.

    Args:
        model: A built model, such as `UNetPseudo3D`, without adapters.
        rank: Rank of the adapters.
        alpha: The adapters' output is scaled by `alpha / rank`.
        layers: Regular expression, searched for in the path of each layer, such as
            `"attn_temporal"`, or `"."` for all, convolutions too. If none matches, it
            is a `ValueError`.
        seed: Seed of the adapters' first values.

    Example:
    ```python
    unet = UNetPseudo3D(block_channels=(32, 64), attention_levels=(True, False))
    add_lora(unet, rank=4, alpha=4.0)
    set_trainable(unet, "lora")
    save_lora(unet, "style.safetensors", form="kohya")  # 72
    ```
    """
    adapted = adaptable_layers(model, layers)
    for number, layer in enumerate(adapted):
        layer.enable_lora(
            rank,
            lora_alpha=alpha,
            # Without a seed of their own they would begin elsewhere in each process.
            a_initializer=keras.initializers.HeUniform(seed=seed + number),
        )
    return len(adapted)


def adaptable_layers(model: keras.Model, layers: str) -> list[Int8Kernel]:
    """The dense and convolution layers whose path a regular expression is found in."""
    found = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, Int8Kernel) and re.search(layers, layer.path)
    ]
    if not found:
        raise ValueError(f"No layer's path matches layers={layers!r}")
    return found


def has_lora(model: keras.Model) -> bool:
    """Whether any layer of the model has an adapter."""
    return any(ADAPTER_WEIGHT in variable.path for variable in model.variables)


@contextmanager
def adapters_off(model: keras.Model) -> Iterator[None]:
    """Let a model compute without its adapters while a block runs."""
    layers = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if getattr(layer, "lora_enabled", False)
    ]
    try:
        for layer in layers:
            layer.lora_enabled = False
        yield
    finally:
        for layer in layers:
            layer.lora_enabled = True


def save_lora(model: keras.Model, path: StrPath, form: str = "diffusers") -> int:
    """Write a UNet's adapters to a file that `TextToVideo.load_lora` takes.

    Other programs take those of spatial layers; they have no layers over frames.

    Args:
        model: A `UNetPseudo3D` that has adapters by `add_lora`.
        path: The file, `.safetensors`; what is there is replaced.
        form: `"diffusers"` or `"kohya"`, of names and of where alpha stands.

    Returns:
        The number of layers with adapters; none, or another form, is a `ValueError`.
    """
    from weights_tools.architectures import variables_of
    from weights_tools.lora import LowRank, write_lora

    paths = {id(variable): name for name, variable in variables_of(model).items()}
    pairs = {}
    for layer in model._flatten_layers(include_self=False):
        if getattr(layer, "lora_enabled", False):
            a, b = map(ops.convert_to_numpy, (layer.lora_kernel_a, layer.lora_kernel_b))
            kernel = paths[id(layer._kernel)]
            pairs[kernel] = LowRank.of("unet", kernel, a, b, layer.lora_alpha)
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
