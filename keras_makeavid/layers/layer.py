"""What all layers of this package have in common: parts, and how they are saved."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import keras

from keras_makeavid.tensor import Shape

Part = TypeVar("Part")


class Configured:
    """Makes the configuration of a Keras layer or model of its own arguments.

    These are what its constructors take and keep in attributes of the same names. It
    stands before the Keras class among the bases.
    """

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this again."""
        parent: Any = super()
        config = parent.get_config()
        for kind in reversed(type(self).__mro__):
            if issubclass(kind, Configured) and "__init__" in vars(kind):
                names = inspect.signature(vars(kind)["__init__"]).parameters
                own = [n for n in names if n not in config and hasattr(self, n)]
                config |= {name: getattr(self, name) for name in own}
        return config


class Layer(Configured, keras.layers.Layer):
    """A layer whose parts have its dtype policy."""

    def part(
        self, kind: Callable[..., Part], name: str, *arguments: Any, **options: Any
    ) -> Part:
        """Make a layer of a kind, with these arguments, to be a part of this one."""
        return kind(*arguments, dtype=self.dtype_policy, name=name, **options)


class ShapeKeepingLayer(Layer):
    """A layer whose output has the shape of its first input."""

    def compute_output_shape(self, inputs_shape, *others) -> Shape:
        return inputs_shape
