"""All that a training model and its optimizer are, as arrays and their checksums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

_WORDS = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint32"}


def read_state(model: keras.Model) -> dict[str, Any]:
    """Copy the weights, random state and optimizer's variables, by name.

    The arrays are JAX's own on that backend, NumPy's on others.
    """
    state = state_like(model)
    if keras.config.backend() == "jax":
        return state
    # Unlike JAX's arrays, others may share the memory that training writes to.
    return {n: np.array(ops.convert_to_numpy(v)) for n, v in state.items()}


def state_like(model: keras.Model) -> dict[str, Any]:
    """What has the shapes, dtypes and places of `read_state`, without copies."""
    variables = _variables(model)
    if keras.config.backend() == "jax":
        return {name: variable.value for name, variable in variables.items()}
    return variables


def write_state(model: keras.Model, state: Mapping[str, Any]) -> None:
    """Put back what `read_state` gave of the model, or of one made the same way."""
    variables = _variables(model)
    if variables.keys() != state.keys():
        raise ValueError(
            f"The model has {len(variables)} variables. Received: {len(state)}"
        )
    for name, variable in variables.items():
        if tuple(variable.shape) != tuple(state[name].shape):
            raise ValueError(
                f"{name} has the shape {tuple(variable.shape)}. Received: "
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


def checksums(arrays: Mapping[str, Any]) -> dict[str, int]:
    """A number of 32 bits for each array that any change of its bits changes.

    Its 32-bit words are summed with odd weights that differ by place: a flipped bit and
    two swapped values show. Arrays on an accelerator stay there.
    """
    if keras.config.backend() == "jax" and _not_on_this_host(arrays):
        return checksums_by_jax(arrays)
    return {name: _checksum(np.asarray(array)) for name, array in arrays.items()}


def _checksum(array):
    words = np.ascontiguousarray(array).reshape(-1)
    words = words.view(_WORDS[array.dtype.itemsize]).astype("uint32")
    weights = np.arange(words.size, dtype="uint32") * np.uint32(2) + np.uint32(1)
    return int(np.sum(words * weights, dtype="uint32"))


def checksums_by_jax(arrays: Mapping[str, Any]) -> dict[str, int]:
    """The same of JAX arrays, on their devices."""
    import jax

    # A program for each shape: one of all arrays would compile for longer. One after
    # the other: on CPUs, processes that have several under way wait for each other.
    checksum = jax.jit(_checksum_by_jax)
    return {name: int(checksum(array)) for name, array in arrays.items()}


def _checksum_by_jax(array):
    import jax
    import jax.numpy as jnp

    if array.dtype == bool:
        array = array.astype("uint8")
    words = jax.lax.bitcast_convert_type(array, _WORDS[array.dtype.itemsize])
    words = words.astype("uint32")
    return jnp.sum(words * (2 * _places(words.shape) + 1), dtype="uint32")


def _places(shape):
    """The number of each element, without an array in one row: parts stay apart."""
    import jax
    import jax.numpy as jnp

    places = jnp.zeros(shape, "uint32")
    for axis, size in enumerate(shape):
        places = places * jnp.uint32(size) + jax.lax.broadcasted_iota(
            "uint32", shape, axis
        )
    return places


def _not_on_this_host(arrays):
    import jax

    values = arrays.values()
    if not all(isinstance(array, jax.Array) for array in values):
        return False
    whole = all(array.is_fully_addressable for array in values)
    return jax.default_backend() != "cpu" or not whole
