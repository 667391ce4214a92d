"""What the training models have in common: what they log, draw and compare."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import keras
from keras import ops

from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.tensor import Tensor
from keras_makeavid.training.distribution import FullySharded


class LastValue(keras.metrics.Metric):
    """A metric that is its last value."""

    def __init__(self, name: str):
        super().__init__(name=name, dtype="float32")
        self.value = self.add_variable((), initializer="zeros", name="value")

    def update_state(self, value) -> None:
        self.value.assign(value)

    def result(self) -> Tensor:
        # Under PyTorch the next step writes into the variable's own tensor.
        return ops.copy(self.value)


class ReportingModel(keras.Model):
    """A model that draws at random, and whose `fit` logs what each step tells.

    `loss` is Keras's mean over the epoch so far; `step_loss` is the step's. An
    optimizer reports by a dict of variables, `step_report`, as `AdamW` does.
    """

    def __init__(self, seed: int | None = None, **kwargs):
        # What is compared is not rounded to the dtype that is computed in.
        super().__init__(autocast=False, **kwargs)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.step_loss = LastValue("step_loss")

    def make_train_function(self, force=False) -> Callable[..., Any]:
        # TensorFlow traces a step that makes variables on its way a second time.
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict[str, Any]:
        self.step_loss.update_state(self.compute_loss(x, y, y_pred, sample_weight))
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def train_step(self, *arguments) -> Any:
        # Keras wraps the optimizer of a float16 model in one that scales the loss.
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        report = getattr(optimizer, "step_report", {})
        if keras.config.backend() != "jax":
            logs = super().train_step(*arguments)
            return {**logs, **{name: ops.copy(v) for name, v in report.items()}}
        distribution = keras.distribution.distribution()
        is_sharded = isinstance(distribution, FullySharded)
        with distribution.samples_apart() if is_sharded else nullcontext():
            logs, state = super().train_step(*arguments)
        values = dict(zip(map(id, self.optimizer.variables), state[2], strict=True))
        return {**logs, **{name: values[id(v)] for name, v in report.items()}}, state


class DiffusionModel(ReportingModel):
    """Draws noise and timesteps on the device, and compares predictions in float32.

    A subclass's `call` returns what `outputs` makes of its prediction. The arguments
    are those of `VideoDiffusion`; its `EMPTY` names the one of the empty prompt.
    """

    EMPTY: str

    def __init__(
        self,
        unet: UNetPseudo3D,
        schedule: NoiseSchedule,
        caption_dropout: float,
        empty: Any | None,
        min_snr_gamma: float | None,
        seed: int | None,
        **kwargs,
    ):
        super().__init__(seed, **{"dtype": unet.dtype_policy, **kwargs})
        if not 0.0 <= caption_dropout <= 1.0:
            expected = "caption_dropout must be from 0 to 1"
            raise ValueError(f"{expected}. Received: {caption_dropout}")
        if not isinstance(schedule, NoiseSchedule):
            wanted = "the NoiseSchedule that the UNet was trained with"
            raise ValueError(f"schedule must be {wanted}. Received: {schedule!r}")
        if caption_dropout and empty is None:
            expected = f"caption_dropout={caption_dropout} needs {self.EMPTY}"
            raise ValueError(f"{expected}. Received: None")
        self.unet = unet
        self.schedule = schedule
        self.caption_dropout = caption_dropout
        self.min_snr_gamma = min_snr_gamma

    def noised(self, latents: Any) -> tuple[Any, Any, Any]:
        """Noisy latents of scaled ones, timesteps `(B,)` and what is to be told."""
        batch = ops.shape(latents)[0]
        seed, steps = self.seed_generator, self.schedule.num_train_steps
        timesteps = keras.random.randint((batch,), 0, steps, seed=seed)
        noise = keras.random.normal(ops.shape(latents), dtype="float32", seed=seed)
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        return noisy, timesteps, self.schedule.target(latents, noise, timesteps)

    def with_dropout(self, texts: Any, empty: Any) -> Any:
        """Put the empty prompt `(L, ...)` in place of some of texts `(B, L, ...)`."""
        shape, seed = (ops.shape(texts)[0],), self.seed_generator
        drawn = keras.random.uniform(shape, dtype="float32", seed=seed)
        sides = (-1,) + (1,) * (len(texts.shape) - 1)
        dropped = ops.reshape(drawn < self.caption_dropout, sides)
        return ops.where(dropped, empty, texts)

    def outputs(self, prediction: Any, target: Any, timesteps: Any) -> dict[str, Any]:
        """What `call` returns, all that the loss is made of; `weights` are `(B,)`."""
        outputs = {"prediction": ops.cast(prediction, "float32"), "target": target}
        if self.min_snr_gamma is not None:
            gamma = self.min_snr_gamma
            outputs["weights"] = self.schedule.min_snr_weights(timesteps, gamma)
        return outputs

    def errors(self, difference: Any) -> Any:
        """What the loss is the mean of."""
        return ops.square(difference)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ) -> Tensor:
        errors = self.errors(y_pred["target"] - y_pred["prediction"])
        if "weights" in y_pred:
            rank = len(errors.shape)
            errors = errors * ops.reshape(y_pred["weights"], (-1,) + (1,) * (rank - 1))
        loss = ops.mean(errors)
        # An infinite loss may have finite gradients: they must not pass for good ones.
        return loss * ops.where(ops.isfinite(loss), 1.0, float("nan"))
