"""What layers have in common: parts, configurations, and the check of shapes."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras

from keras_makeavid.tensor import Shape

Part = TypeVar("Part")


class Configured:
    """Makes the configuration of a Keras layer or model of its own arguments.

    These are in attributes of their names. It is a base before the Keras class.
    """

    def get_config(self) -> dict[str, Any]:
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

    def build_rest(self, shape: Shape) -> None:
        """Build the parts that are not built yet, each for inputs of this shape."""
        for part in self._flatten_layers(include_self=False, recursive=False):
            if not part.built:
                part.build(shape)


class ShapeKeepingLayer(Layer):
    """A layer whose output has the shape of its first input."""

    def compute_output_shape(self, inputs_shape, *others) -> Shape:
        return inputs_shape


def check_shape(
    name: str, shape: Sequence[int | None], channels: int, factor: int = 1
) -> None:
    """Refuse what is neither `(B, H, W, channels)` nor `(B, F, H, W, channels)`.

    `None` is a size not known yet. Height and width must be multiples of `factor`.
    """
    shape = tuple(shape)
    if len(shape) not in (4, 5) or shape[-1] != channels:
        expected = f"a video (B, F, H, W, {channels}) or images (B, H, W, {channels})"
        raise ValueError(f"{name} must be {expected}. Received: {shape}")
    for axis, size in zip(("height", "width"), shape[-3:-1], strict=True):
        if size is not None and (size % factor or size == 0):
            below = max(size // factor, 1) * factor
            raise ValueError(
                f"The {axis} of {name} must be a multiple of {factor}, such as "
                f"{below} or {below + factor}. Received: {shape}"
            )
    if 0 in shape:
        raise ValueError(f"{name} must not be empty. Received: {shape}")
