"""Models of shapes alone: built as usual, with no weight in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import keras

Model = TypeVar("Model")


def build_abstract(make: Callable[[], Model]) -> Model:
    """Make a model whose variables have shape, dtype and layout, and no value.

    It can be traced and compiled, and not run.

    Args:
        make: makes a `keras.Model`, compiled or not, and reads no values.

    Example:
    ```python
    unet = build_abstract(lambda: UNetPseudo3D())  # 1,100,578,616 parameters, no memory
    ```
    """
    import jax

    made = []

    def values():
        made.append(make())
        return [variable.value for variable in variables_of(made[0])]

    shapes = jax.eval_shape(values)
    for variable, shape in zip(variables_of(made[0]), shapes, strict=True):
        layout = variable._layout
        # Assigning would need an array: Keras has no variables of shapes alone.
        variable._value = jax.ShapeDtypeStruct(
            shape.shape, shape.dtype, sharding=layout and _sharding(layout)
        )
    return made[0]


def abstract_batch(shape: tuple[int, ...], dtype: str) -> Any:
    """A batch's array, divided over the devices as `fit` divides it.

    Args:
        shape: `(B, ...)`.
        dtype: of the array.

    Example:
    ```python
    abstract_batch((4, 24, 64, 64, 4), "float16")
    ```
    """
    import jax

    distribution = keras.distribution.distribution()
    layout = distribution and _sharding(distribution.get_data_layout(shape))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=layout)


def variables_of(model: keras.Model) -> list[keras.Variable]:
    """All that a model and its optimizer hold, each once.

    Example:
    ```python
    variables_of(UNetPseudo3D(block_channels=(32,), attention_levels=(False,)))
    ```
    """
    return list({id(variable): variable for variable in _variables(model)}.values())


def _variables(model) -> Iterator[keras.Variable]:
    yield from model.variables
    yield from model.metrics_variables
    if getattr(model, "optimizer", None) is not None:
        yield from model.optimizer.variables


def _sharding(layout):
    return getattr(layout, "backend_layout", layout)
