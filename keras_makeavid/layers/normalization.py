"""Group and layer normalisation as fast as the backend's own."""

import keras
from keras import ops

from keras_makeavid.layers.layer import ShapeKeepingLayer
from keras_makeavid.layers.operations.normalization import (
    group_normalization,
    layer_normalization,
)
from keras_makeavid.tensor import Tensor


@keras.saving.register_keras_serializable(package="keras_makeavid")
class GroupNormalization(ShapeKeepingLayer):
    """Group normalisation over every axis between batch and channels.

    On a video `(B, F, H, W, C)` the statistics run over frames and space, as the
    residual blocks want, or over the space of each frame alone, as motion modules want
    (docs/model.md, Traps). They are accumulated in float32 under every dtype policy.

    Args:
        groups: Number of channel groups; divides C, or building is a `ValueError`.
        epsilon: Added to the variance.
        activated: Whether SiLU follows, in the same operation.
        per_frame: Whether each frame of a video has statistics of its own.

    Example:
    ```python
    y = GroupNormalization(groups=32)(keras.random.normal((1, 8, 16, 16, 64)))
    ```
    """

    def __init__(
        self,
        groups: int = 32,
        epsilon: float = 1e-5,
        activated: bool = False,
        per_frame: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.groups = groups
        self.epsilon = epsilon
        self.activated = activated
        self.per_frame = per_frame

    def build(self, input_shape) -> None:
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(
                "GroupNormalization: the number of channels must be a multiple of "
                f"groups. Received: channels={channels}, groups={self.groups}"
            )
        self.gamma = self.add_weight((channels,), "ones", name="gamma")
        self.beta = self.add_weight((channels,), "zeros", name="beta")

    def call(self, inputs) -> Tensor:
        """Normalise `(B, ..., C)`; the shape stays."""
        shape = ops.shape(inputs)
        folds = self.per_frame and len(shape) == 5
        if folds:
            inputs = ops.reshape(inputs, (-1, *shape[2:]))
        outputs = group_normalization(
            inputs, self.gamma, self.beta, self.groups, self.epsilon, self.activated
        )
        return ops.reshape(outputs, shape) if folds else outputs


@keras.saving.register_keras_serializable(package="keras_makeavid")
class LayerNormalization(keras.layers.LayerNormalization):
    """Keras's layer normalisation over the last axis, centred before it is scaled.

    `epsilon` is added to the variance.

    Example:
    ```python
    y = LayerNormalization(epsilon=1e-5)(keras.random.normal((1, 8, 64)))
    ```
    """

    def __init__(self, epsilon: float = 1e-5, **kwargs):
        super().__init__(epsilon=epsilon, **kwargs)

    def call(self, inputs) -> Tensor:
        """Normalise `(..., C)`; the shape stays."""
        return layer_normalization(inputs, self.gamma, self.beta, self.epsilon)
