"""AdamW as published, which skips what is not finite, and its learning rate."""

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

DECAYS = ("constant", "cosine")


@keras.saving.register_keras_serializable(package="keras_makeavid")
@dataclasses.dataclass(frozen=True)
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up to `peak`, then constant or half a cosine down to `final`.

    Args:
        peak: The rate at the end of the warm-up.
        warmup_steps: Steps of the warm-up, 0 for none.
        decay: `"constant"` or `"cosine"`.
        total_steps: Steps of the warm-up and the decay together.
        final: The rate of the last step of a cosine.

    Raises:
        ValueError: If the decay is none of these, or has no steps.

    Example:
    ```python
    rate = WarmupSchedule(5e-5, 2_500, "cosine", total_steps=22_500, final=1e-8)
    ```
    """

    peak: float
    warmup_steps: int = 0
    decay: str = "constant"
    total_steps: int | None = None
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.decay not in DECAYS:
            raise ValueError(f"decay must be one of {DECAYS}. Received: {self.decay!r}")
        total, warmup = self.total_steps, self.warmup_steps
        if self.decay == "cosine" and (total is None or total <= warmup):
            raise ValueError(
                "A cosine needs total_steps above warmup_steps. Received: "
                f"total_steps={total}, warmup_steps={warmup}"
            )

    def __call__(self, step):
        """Return the rate of a step, counted from 0."""
        done = ops.cast(step, "float32") + 1.0
        rate = self.peak
        if self.decay == "cosine":
            length = self.total_steps - self.warmup_steps
            progress = ops.clip((done - self.warmup_steps) / length, 0.0, 1.0)
            cosine = 0.5 * (1.0 + ops.cos(math.pi * progress))
            rate = self.final + (self.peak - self.final) * cosine
        return rate * ops.minimum(done / max(self.warmup_steps, 1), 1.0)

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@keras.saving.register_keras_serializable(package="keras_makeavid")
class AdamW(keras.optimizers.AdamW):
    """AdamW for long runs: exact epsilon, and no step into NaN.

    Loshchilov and Hutter (2017) add epsilon to the bias-corrected root;
    `keras.optimizers.AdamW` adds it before, which in the first step makes it 32 times
    as large. The defaults are those of the published training (`docs/model.md`).

    A gradient that is not finite changes nothing but the count of steps, decided on the
    device. With accumulation, only the bad micro-batch is left out of the mean.

    The average (`use_ema`) follows the weights of the updates made, at first faster
    than `ema_momentum` says. It never replaces them: `averaged_weights` shows it.

    Args:
        learning_rate: Number or schedule, of the number of steps.
        weight_decay: Decay of each weight an update, times the learning rate.
        epsilon: Added to the root of the second moment.
        global_clipnorm: Norm of all gradients together above which they are scaled.
        **kwargs: See `keras.optimizers.AdamW`, such as `use_ema`; `amsgrad` and
            `ema_overwrite_frequency` are a `ValueError`.

    Example:
    ```python
    decay = keras.optimizers.schedules.CosineDecay(5e-5, decay_steps=85_000)
    optimizer = AdamW(learning_rate=decay, use_ema=True, ema_momentum=0.9999)
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
        if kwargs.get("ema_overwrite_frequency") or kwargs.get("amsgrad"):
            expected = "AdamW has neither ema_overwrite_frequency nor amsgrad"
            raise ValueError(f"{expected}. Received: {kwargs}")
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            epsilon=epsilon,
            global_clipnorm=global_clipnorm,
            **kwargs,
        )
        # Schedules go by `iterations`, bias correction and averages by updates made.
        self.updates = self._scalar("updates", "int32")
        self.skipped_steps = self._scalar("skipped_steps", "int32")
        self.learning_rate_scale = self._scalar("learning_rate_scale", "float32")
        self.learning_rate_scale.assign(1.0)
        self.last_gradient_norm = self._scalar("last_gradient_norm", "float32")
        self.last_learning_rate = self._scalar("last_learning_rate", "float32")
        if self.gradient_accumulation_steps:
            self._parts = self._scalar("accumulated_parts", "int32")

    def _scalar(self, name, dtype):
        return self.add_variable(shape=(), dtype=dtype, name=name)

    def build(self, variables) -> None:
        super().build(variables)
        for variable, average in self._averages():
            # A buffer of its own: JAX donates each to the step once.
            average.assign(ops.copy(variable))

    @property
    def step_report(self) -> dict[str, keras.Variable]:
        """What `fit` may log of the last step, by name."""
        return {
            "grad_norm": self.last_gradient_norm,
            "lr": self.last_learning_rate,
            "skipped_total": self.skipped_steps,
        }

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Put the averages of `use_ema` in place of the weights, while a block runs."""
        averages = self._averages()
        kept = [ops.copy(variable) for variable, _ in averages]
        for variable, average in averages:
            variable.assign(average)
        try:
            yield
        finally:
            for (variable, _), value in zip(averages, kept, strict=True):
                variable.assign(value)

    def finalize_variable_values(self, var_list) -> None:
        # Keras would overwrite the weights with their averages at every end of `fit`.
        pass

    def _averages(self):
        if not self.use_ema:
            return []
        pairs = zip(
            self._trainable_variables, self._model_variables_moving_average, strict=True
        )
        return list(pairs)

    def _get_current_learning_rate(self):
        rate = super()._get_current_learning_rate()
        return ops.cast(rate, "float32") * self.learning_rate_scale

    def _backend_apply_gradients(self, grads, trainable_variables):
        norm = _global_norm(grads)
        due = good = ops.isfinite(norm)
        if self.gradient_accumulation_steps:
            grads, norm, due = self._accumulate(grads, norm, good, trainable_variables)
        self.skipped_steps.assign_add(1 - ops.cast(good, "int32"))
        self.last_gradient_norm.assign(norm)
        learning_rate = self.learning_rate
        self.last_learning_rate.assign(learning_rate)

        scale = 1.0
        if self.global_clipnorm:
            limit = float(self.global_clipnorm)
            scale = limit / ops.maximum(norm, limit)
        else:
            grads = self._clip_gradients(grads)
        if self._are_quicker_together(trainable_variables):
            self._update_together(grads, trainable_variables, scale, learning_rate, due)
        else:
            for gradient, variable in zip(grads, trainable_variables, strict=True):
                self._update(gradient * scale, variable, learning_rate, due)
        self.updates.assign_add(ops.cast(due, "int32"))

    def _accumulate(self, grads, norm, good, variables):
        """Add a part; return the mean of the parts, its norm, and if to update now."""
        steps = self.gradient_accumulation_steps
        last = ops.equal((self._iterations + 1) % steps, 0)
        parts = ops.convert_to_tensor(self._parts) + ops.cast(good, "int32")
        count = ops.cast(ops.maximum(parts, 1), "float32")
        means = []
        for gradient, variable in zip(grads, variables, strict=True):
            sums = self._accumulated_gradients[self._get_variable_index(variable)]
            total = ops.convert_to_tensor(sums)
            total = ops.where(good, total + gradient, total)
            means.append(total / ops.cast(count, total.dtype))
            sums.assign(ops.where(last, ops.zeros_like(total), total))
        self._parts.assign(ops.where(last, ops.zeros_like(parts), parts))
        mean_norm = _global_norm(means)
        due = ops.logical_and(last, parts > 0)
        return means, ops.where(good, mean_norm, norm), due

    def _update(self, gradient, variable, learning_rate, due):
        """One variable's AdamW step and average, kept only where `due`."""
        index = self._get_variable_index(variable)
        slots = [variable, self._momentums[index], self._velocities[index]]
        # Tensors, as Keras's variables are slow to calculate with under PyTorch.
        value, mean, square = old = [ops.convert_to_tensor(slot) for slot in slots]
        learning_rate, count = (
            ops.cast(x, value.dtype) for x in (learning_rate, self.updates + 1)
        )
        gradient = ops.cast(gradient, value.dtype)
        mean = mean + (gradient - mean) * (1.0 - self.beta_1)
        square = square + (gradient * gradient - square) * (1.0 - self.beta_2)
        unbiased_mean = mean / _bias(self.beta_1, count)
        unbiased_root = ops.sqrt(square / _bias(self.beta_2, count))
        if self.weight_decay and self._use_weight_decay(variable):
            value = value - value * self.weight_decay * learning_rate
        value = value - learning_rate * unbiased_mean / (unbiased_root + self.epsilon)
        new = [value, mean, square]
        if self.use_ema:
            slots.append(self._model_variables_moving_average[index])
            average = ops.convert_to_tensor(slots[-1])
            # The weights of the first updates are far from those of the last.
            momentum = ops.minimum(self.ema_momentum, count / (count + 9.0))
            old.append(average)
            new.append(average + (value - average) * (1.0 - momentum))
        for slot, before, after in zip(slots, old, new, strict=True):
            slot.assign(ops.where(due, after, before))

    @staticmethod
    def _are_quicker_together(variables):
        """Whether to update all variables by a few calls of PyTorch.

        Hundreds of small tensors take longer to dispatch one by one than to compute
        (`benchmarks/optimizer.py`). A GPU would have to wait for the norm first.
        """
        if keras.config.backend() != "torch":
            return False
        import torch

        tensors = [variable.value for variable in variables]
        return all(x.device.type == "cpu" and x.dtype == torch.float32 for x in tensors)

    def _update_together(self, gradients, variables, scale, learning_rate, due):
        """The same of all variables at once, in place, by PyTorch."""
        if not due:
            return
        import torch

        indices = [self._get_variable_index(variable) for variable in variables]

        def tensors(slots):
            return [slots[index].value for index in indices]

        values = [variable.value for variable in variables]
        means, squares = tensors(self._momentums), tensors(self._velocities)
        scale, rate, count = float(scale), float(learning_rate), int(self.updates) + 1
        with torch.no_grad():
            if scale != 1.0:
                gradients = torch._foreach_mul(gradients, scale)
            steps = torch._foreach_sub(gradients, means)
            torch._foreach_add_(means, steps, alpha=1.0 - self.beta_1)
            steps = torch._foreach_mul(gradients, gradients)
            torch._foreach_sub_(steps, squares)
            torch._foreach_add_(squares, steps, alpha=1.0 - self.beta_2)
            roots = torch._foreach_div(squares, 1.0 - self.beta_2**count)
            torch._foreach_sqrt_(roots)
            torch._foreach_add_(roots, self.epsilon)
            decaying = [v.value for v in variables if self._use_weight_decay(v)]
            if self.weight_decay and decaying:
                torch._foreach_mul_(decaying, 1.0 - self.weight_decay * rate)
            unbiased_rate = rate / (1.0 - self.beta_1**count)
            torch._foreach_addcdiv_(values, means, roots, -unbiased_rate)
            if self.use_ema:
                averages = tensors(self._model_variables_moving_average)
                momentum = min(self.ema_momentum, count / (count + 9))
                torch._foreach_lerp_(averages, values, 1.0 - momentum)


def _bias(beta, count):
    """`1 - beta**count`, which written so has four digits at first, in float32."""
    return -ops.expm1(count * math.log(beta)) if beta else ops.ones_like(count)


def _global_norm(tensors):
    if keras.config.backend() == "torch":
        import torch

        norms = torch._foreach_norm(tensors, dtype=torch.float32)
        return torch.linalg.vector_norm(torch.stack(norms))
    sums = [ops.sum(ops.square(ops.cast(x, "float32"))) for x in tensors]
    return ops.sqrt(ops.sum(ops.stack(sums)))
