"""AdamW as published."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_makeavid")
class AdamW(keras.optimizers.AdamW):
    """AdamW whose epsilon stands where the paper, optax and PyTorch have it.

    Loshchilov and Hutter (2017) add epsilon to the bias-corrected root;
    `keras.optimizers.AdamW` adds it before the correction, which in the first step
    makes it 32 times as large: weights with small gradients then move by half as
    much. The defaults are the published model's (spec section 5).

    Args:
        learning_rate: number or schedule.
        weight_decay: decay of each weight a step, times the learning rate.
        epsilon: added to the root of the second moment.
        global_clipnorm: norm of all gradients together above which they are scaled.
        **kwargs: see `keras.optimizers.AdamW`.

    Example:
    ```python
    decay = keras.optimizers.schedules.CosineDecay(5e-5, decay_steps=85_000)
    optimizer = AdamW(learning_rate=decay)
    ```
    """

    def __init__(
        self,
        learning_rate=5e-5,
        weight_decay: float = 0.02,
        epsilon: float = 1e-8,
        global_clipnorm: float | None = 1.0,
        **kwargs,
    ):
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            epsilon=epsilon,
            global_clipnorm=global_clipnorm,
            **kwargs,
        )

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        step = ops.cast(self.iterations + 1, variable.dtype)
        index = self._get_variable_index(variable)
        mean, square = self._momentums[index], self._velocities[index]

        self.assign_add(mean, (gradient - mean) * (1.0 - self.beta_1))
        self.assign_add(square, (ops.square(gradient) - square) * (1.0 - self.beta_2))
        unbiased_mean = mean / (1.0 - ops.power(self.beta_1, step))
        unbiased_root = ops.sqrt(square / (1.0 - ops.power(self.beta_2, step)))
        update = learning_rate * unbiased_mean / (unbiased_root + self.epsilon)
        self.assign_sub(variable, update)
