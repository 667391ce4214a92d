"""All that a training model and its optimizer are, as arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops


def read_state(model: keras.Model) -> dict[str, Any]:
    """Copies of the weights, the random state and the optimizer's variables.

    Args:
        model: a compiled model whose optimizer is built.

    Returns:
        Arrays by name: JAX's own on that backend, NumPy's on others.

    Example:
    ```python
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(optimizer="adam", loss="mse")
    state = read_state(model)
    ```
    """
    # JAX's arrays never change. Others may share the memory that training writes to.
    read = _value if keras.config.backend() == "jax" else _copy
    return {name: read(variable) for name, variable in _variables(model).items()}


def state_like(model: keras.Model) -> dict[str, Any]:
    """What `read_state` would give, without its values: shapes, dtypes, places."""
    variables = _variables(model)
    if keras.config.backend() != "jax":
        return {name: np.empty(v.shape, v.dtype) for name, v in variables.items()}
    import jax

    return {
        name: jax.ShapeDtypeStruct(
            variable.shape, variable.value.dtype, sharding=variable.value.sharding
        )
        for name, variable in variables.items()
    }


def write_state(model: keras.Model, state: Mapping[str, Any]) -> None:
    """Put back what `read_state` gave.

    Args:
        model: the model, or another made the same way.
        state: arrays by name.

    Raises:
        ValueError: if names or shapes are those of another model.
    """
    variables = _variables(model)
    if variables.keys() != state.keys():
        raise ValueError(
            f"The model has {len(variables)} variables, received {len(state)}"
        )
    for name, variable in variables.items():
        if tuple(variable.shape) != tuple(state[name].shape):
            raise ValueError(
                f"{name} has the shape {tuple(variable.shape)}, received "
                f"{tuple(state[name].shape)}"
            )
        variable.assign(state[name])


def _variables(model):
    groups = {
        "trainable": model.trainable_variables,
        "other": model.non_trainable_variables,
        "optimizer": model.optimizer.variables,
    }
    # Paths may hold counters of the process; the order is the model's.
    return {
        f"{group}.{number:05}": variable
        for group, variables in groups.items()
        for number, variable in enumerate(variables)
    }


def _value(variable):
    return variable.value


def _copy(variable):
    return np.array(ops.convert_to_numpy(variable))
