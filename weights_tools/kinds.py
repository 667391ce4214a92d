"""The kinds of models that weights belong to, and what variables each has."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import keras

from keras_makeavid.models import AutoencoderKL, UNetPseudo3D
from keras_makeavid.models.loading import without_weights
from keras_makeavid.text import TextEncoder
from weights_tools.configuration import architecture, check_arguments

MODELS: dict[str, type[keras.Model]] = {
    "unet": UNetPseudo3D,
    "vae": AutoencoderKL,
    "text_encoder": TextEncoder,
}

# Names of the one layer that holds the whole model, first in each variable's path.
_NETWORKS = {"unet": "unet/", "vae": "autoencoder/", "text_encoder": ""}


def kind_of(model: keras.Model) -> str:
    """The kind of a model: `"unet"`, `"vae"` or `"text_encoder"`.

    Raises:
        ValueError: if it is none of ours.
    """
    for kind, model_class in MODELS.items():
        if isinstance(model, model_class):
            return kind
    names = [model_class.__name__ for model_class in MODELS.values()]
    raise ValueError(f"model must be one of {names}. Received: {type(model).__name__}")


def variables_of(model: keras.Model) -> dict[str, keras.Variable]:
    """The variables of a model by their path without the model's own name."""
    # KerasHub begins the names of layers with that of the model, where one was given.
    begins = _NETWORKS[kind_of(model)] or f"{model.name}_"
    return {v.path.removeprefix(begins): v for v in model.variables}


def complete(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a model with its defaults filled in, as JSON has them.

    Args:
        kind: kind of the model.
        arguments: arguments of its class.

    Raises:
        ValueError: if an argument is unknown, or they describe no such model.

    Example:
    ```python
    complete("unet", {"in_channels": 4})["context_dim"]  # 768
    ```
    """
    return json.loads(_described(kind, arguments)[0])


def shapes_of(kind: str, arguments: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the variables that a model would have; no weight is made.

    Args:
        kind: kind of the model.
        arguments: arguments of its class.

    Returns:
        Shape by path, in the model's order.

    Raises:
        ValueError: if an argument is unknown, or they describe no such model.

    Example:
    ```python
    len(shapes_of("unet", {"context_dim": 768}))  # 930
    ```
    """
    return dict(_described(kind, arguments)[1])


def _described(kind, arguments):
    check_arguments(kind, arguments)
    # Lists of a configuration are not hashable; its JSON is.
    return _describe(kind, json.dumps(arguments, sort_keys=True))


def weightless_model(kind: str, arguments: Mapping[str, Any]) -> keras.Model:
    """A model whose variables have no values, to be looked at; not to be changed.

    Args:
        kind: kind of the model.
        arguments: arguments of its class.

    Returns:
        The model: the same each time for the same arguments.

    Raises:
        ValueError: if an argument is unknown, or they describe no such model.

    Example:
    ```python
    weightless_model("unet", {"context_dim": 768}).count_params()  # 1100578616
    ```
    """
    check_arguments(kind, arguments)
    return _model(kind, json.dumps(arguments, sort_keys=True))


# Making one of full size takes half a second: those of a pipeline are made once.
@functools.lru_cache(maxsize=8)
def _model(kind, arguments):
    try:
        return without_weights(lambda: MODELS[kind](**json.loads(arguments)))
    except TypeError as error:
        raise ValueError(f"Not arguments of a {kind}: {error}") from error


@functools.lru_cache(maxsize=16)
def _describe(kind, arguments):
    """The complete arguments as JSON, and the shapes, of a model not made for real."""
    model = _model(kind, arguments)
    config = architecture(model.get_config())
    unknown = sorted(json.loads(arguments).keys() - config.keys())
    if unknown:
        raise ValueError(
            f"A {kind} has the arguments {sorted(config)}. Received: {unknown}"
        )
    shapes = {path: tuple(v.shape) for path, v in variables_of(model).items()}
    return json.dumps(config), shapes
