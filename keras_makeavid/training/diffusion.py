"""What the training of videos and of images have in common."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.training.reporting import ReportingModel


class DiffusionModel(ReportingModel):
    """Draws noise and timesteps on the device, and compares predictions in float32.

    A subclass's `call` returns what `outputs` makes of its prediction.

    Args:
        schedule: the `NoiseSchedule`, or its config.
        caption_dropout: share of the samples that train with the empty prompt instead
            of theirs, for guidance.
        min_snr_gamma: weighs the timesteps as `min_snr_weights`; `None` does not.
        seed: of timesteps, noise and dropout.
        **kwargs: see `keras.Model`.

    Raises:
        ValueError: if `caption_dropout` is no share.
    """

    def __init__(
        self,
        schedule: NoiseSchedule | dict,
        caption_dropout: float = 0.0,
        min_snr_gamma: float | None = None,
        seed: int | None = None,
        **kwargs,
    ):
        # Half-precision latents are cast where the arithmetic is float32.
        super().__init__(autocast=False, **kwargs)
        if not 0.0 <= caption_dropout <= 1.0:
            raise ValueError(
                f"caption_dropout must be from 0 to 1. Received: {caption_dropout}"
            )
        if isinstance(schedule, dict):
            schedule = NoiseSchedule.from_config(schedule)
        if not isinstance(schedule, NoiseSchedule):
            raise ValueError(
                "schedule must be the NoiseSchedule that the UNet was trained with. "
                f"Received: {schedule!r}"
            )
        self.schedule = schedule
        self.caption_dropout = caption_dropout
        self.min_snr_gamma = min_snr_gamma
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def noised(self, latents: Any) -> tuple[Any, Any, Any]:
        """Draw timesteps and noise.

        Args:
            latents: float32 `(B, ..., C)`, scaled.

        Returns:
            The noisy latents, the timesteps `(B,)`, and the target of the prediction,
            of the latents' shape.
        """
        batch = ops.shape(latents)[0]
        timesteps = keras.random.randint(
            (batch,), 0, self.schedule.num_train_steps, seed=self.seed_generator
        )
        noise = keras.random.normal(
            ops.shape(latents), dtype="float32", seed=self.seed_generator
        )
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        return noisy, timesteps, self.schedule.target(latents, noise, timesteps)

    def with_dropout(self, texts: Any, empty: Any) -> Any:
        """Put the empty prompt in the place of a share of the texts.

        Args:
            texts: `(B, L, ...)`, token ids or text states.
            empty: `(L, ...)`, those of the empty prompt.
        """
        if not self.caption_dropout:
            return texts
        drawn = keras.random.uniform(
            (ops.shape(texts)[0],), dtype="float32", seed=self.seed_generator
        )
        dropped = ops.reshape(
            drawn < self.caption_dropout, (-1,) + (1,) * (len(texts.shape) - 1)
        )
        return ops.where(dropped, empty, texts)

    def outputs(self, prediction: Any, target: Any, timesteps: Any) -> dict[str, Any]:
        """What `call` returns: all that the loss is made of.

        Returns:
            A dict of `prediction` and `target`, float32, and `weights` `(B,)` if the
            timesteps are weighed.
        """
        outputs = {"prediction": ops.cast(prediction, "float32"), "target": target}
        if self.min_snr_gamma is not None:
            outputs["weights"] = self.schedule.min_snr_weights(
                timesteps, self.min_snr_gamma
            )
        return outputs

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        errors = ops.square(y_pred["target"] - y_pred["prediction"])
        if "weights" in y_pred:
            rank = len(errors.shape)
            errors = errors * ops.reshape(y_pred["weights"], (-1,) + (1,) * (rank - 1))
        loss = ops.mean(errors)
        # An infinite loss may have finite gradients: they must not pass for good ones.
        return loss * ops.where(ops.isfinite(loss), 1.0, float("nan"))

    def get_config(self):
        return {
            **super().get_config(),
            "schedule": self.schedule.get_config(),
            "caption_dropout": self.caption_dropout,
            "min_snr_gamma": self.min_snr_gamma,
            "seed": self.seed,
        }
