"""The training model: a UNet, a noise schedule, and what is drawn on the device."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.training.min_snr import min_snr_weights
from keras_makeavid.training.reporting import ReportingModel
from keras_makeavid.training.trainable import set_trainable


@keras.saving.register_keras_serializable(package="keras_makeavid")
class VideoDiffusion(ReportingModel):
    """Trains a UNet on latent videos by plain `compile` and `fit`.

    Spec sections 3 and 4. A batch is a dict of `latents` `(B, F, H, W, C)`, already
    scaled, in half precision if you like, and `context` `(B, L, D)`. Everything
    else is drawn or made on the device: timesteps, noise, hint (the first frame's
    latent, repeated) and mask (zeros). The loss is the mean squared error of the
    prediction, in float32. One that is not finite makes every gradient so, for
    `AdamW` to skip.

    Args:
        unet: the `UNetPseudo3D` to train.
        schedule: the `NoiseSchedule`, or its config.
        trainable: what trains, see `set_trainable`.
        hint_spacing: the hint is every `hint_spacing`-th frame, repeated that many
            times; `None` is the first frame only.
        caption_dropout: share of the samples that train with the empty prompt instead
            of theirs, for guidance.
        empty_context: text states `(L, D)` of the empty prompt, for `caption_dropout`.
        min_snr_gamma: weighs the timesteps as `min_snr_weights`; `None` does not.
        seed: of timesteps, noise and dropout.

    Example:
    ```python
    unet = UNetPseudo3D(block_channels=(32, 64), attention_levels=(True, False))
    model = VideoDiffusion(unet, seed=0)
    model.compile(optimizer=AdamW(learning_rate=5e-5))
    latents = keras.random.normal((2, 8, 16, 16, 4))
    text = keras.random.normal((2, 77, 768))
    model.fit({"latents": latents, "context": text}, batch_size=1)
    ```
    """

    def __init__(
        self,
        unet: UNetPseudo3D,
        schedule: NoiseSchedule | dict | None = None,
        trainable: str = "temporal",
        hint_spacing: int | None = None,
        caption_dropout: float = 0.0,
        empty_context: np.ndarray | None = None,
        min_snr_gamma: float | None = None,
        seed: int | None = None,
        **kwargs,
    ):
        # Half-precision latents are cast where the arithmetic is float32.
        kwargs = {"dtype": unet.dtype_policy, **kwargs}
        super().__init__(autocast=False, **kwargs)
        if isinstance(schedule, dict):
            schedule = NoiseSchedule.from_config(schedule)
        if hint_spacing is not None and hint_spacing < 1:
            raise ValueError(
                f"hint_spacing must be None or at least 1. Received: {hint_spacing}"
            )
        if not 0.0 <= caption_dropout <= 1.0 or (
            caption_dropout and empty_context is None
        ):
            raise ValueError(
                "caption_dropout must be a share from 0 to 1, and needs empty_context. "
                f"Received: {caption_dropout} and empty_context="
                f"{None if empty_context is None else np.shape(empty_context)}"
            )
        self.unet = unet
        self.schedule = schedule or NoiseSchedule()
        self.trainable_part = trainable
        self.hint_spacing = hint_spacing
        self.caption_dropout = caption_dropout
        self.empty_context = None
        if empty_context is not None:
            self.empty_context = self.add_weight(
                shape=np.shape(empty_context),
                dtype="float32",
                trainable=False,
                name="empty_context",
            )
            self.empty_context.assign(empty_context)
        self.min_snr_gamma = min_snr_gamma
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        set_trainable(unet, trainable)
        self.built = True

    def call(self, inputs):
        """Draw noise and timesteps and predict.

        Args:
            inputs: dict of `latents` and `context`.

        Returns:
            A dict of `prediction` and `target`, both `(B, F, H, W, C)` float32, and
            `weights` `(B,)` if the timesteps are weighed.
        """
        unet_inputs, target = self.draw(inputs["latents"], inputs["context"])
        prediction = ops.cast(self.unet(unet_inputs), "float32")
        outputs = {"prediction": prediction, "target": target}
        if self.min_snr_gamma is not None:
            outputs["weights"] = min_snr_weights(
                self.schedule, unet_inputs["timesteps"], self.min_snr_gamma
            )
        return outputs

    def draw(self, latents, context):
        """Make the UNet's inputs and the target of a batch.

        Args:
            latents: `(B, F, H, W, C)`, scaled.
            context: `(B, L, D)`.

        Returns:
            The dict that the UNet takes, and the target `(B, F, H, W, C)`.
        """
        latents = ops.cast(latents, "float32")
        batch = ops.shape(latents)[0]
        timesteps = keras.random.randint(
            (batch,), 0, self.schedule.num_train_steps, seed=self.seed_generator
        )
        noise = keras.random.normal(
            ops.shape(latents), dtype="float32", seed=self.seed_generator
        )
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        mask = ops.zeros_like(latents[..., :1])
        sample = ops.concatenate([noisy, mask, self._hint(latents)], axis=-1)
        if self.caption_dropout:
            context = self._drop_captions(context)
        inputs = {"sample": sample, "timesteps": timesteps, "context": context}
        return inputs, self.schedule.target(latents, noise, timesteps)

    def _drop_captions(self, context):
        batch = ops.shape(context)[0]
        drawn = keras.random.uniform(
            (batch, 1, 1), dtype="float32", seed=self.seed_generator
        )
        empty = ops.convert_to_tensor(self.empty_context)
        context = ops.cast(context, "float32")
        return ops.where(drawn < self.caption_dropout, empty, context)

    def _hint(self, latents):
        frames = latents.shape[1]
        spacing = min(self.hint_spacing or frames, frames)
        return ops.repeat(latents[:, ::spacing], spacing, axis=1)[:, :frames]

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        errors = ops.square(y_pred["target"] - y_pred["prediction"])
        if "weights" in y_pred:
            errors = errors * ops.reshape(y_pred["weights"], (-1, 1, 1, 1, 1))
        loss = ops.mean(errors)
        # An infinite loss may have finite gradients: they must not pass for good ones.
        return loss * ops.where(ops.isfinite(loss), 1.0, float("nan"))

    def get_config(self):
        shape = None if self.empty_context is None else list(self.empty_context.shape)
        return {
            **super().get_config(),
            "unet": keras.saving.serialize_keras_object(self.unet),
            "schedule": self.schedule.get_config(),
            "trainable": self.trainable_part,
            "hint_spacing": self.hint_spacing,
            "caption_dropout": self.caption_dropout,
            # The values are a weight, and come with the weights.
            "empty_context": shape,
            "min_snr_gamma": self.min_snr_gamma,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["unet"] = keras.saving.deserialize_keras_object(config["unet"])
        if config.get("empty_context"):
            config["empty_context"] = np.zeros(config["empty_context"], "float32")
        return cls(**config)
