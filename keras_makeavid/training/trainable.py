"""Which weights train."""

import math
import re

import keras

from keras_makeavid.training.lora import ADAPTER_WEIGHT, has_lora

# The published training: temporal parameters first, then all.
_PATTERNS = {"temporal": r"temporal", "spatial": r"^(?!.*temporal)", "all": r""}


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
