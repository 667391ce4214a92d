"""The training model: a UNet, a noise schedule, and what is drawn on the device."""

from __future__ import annotations

import keras
from keras import ops

from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.training.trainable import set_trainable


@keras.saving.register_keras_serializable(package="keras_makeavid")
class VideoDiffusion(keras.Model):
    """Trains a UNet on latent videos by plain `compile` and `fit`.

    Spec sections 3 and 4. A batch is a dict of `latents` `(B, F, H, W, C)`, already
    scaled, in half precision if you like, and `context` `(B, L, D)`. Everything
    else is drawn or made on the device: timesteps, noise, hint (the first frame's
    latent, repeated) and mask (zeros). The loss is the mean squared error of the
    prediction, in float32.

    Args:
        unet: the `UNetPseudo3D` to train.
        schedule: the `NoiseSchedule`, or its config.
        trainable: what trains, see `set_trainable`.
        hint_spacing: the hint is every `hint_spacing`-th frame, repeated that many
            times; `None` is the first frame only.
        seed: of timesteps and noise.

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
        self.unet = unet
        self.schedule = schedule or NoiseSchedule()
        self.trainable_part = trainable
        self.hint_spacing = hint_spacing
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        set_trainable(unet, trainable)
        self.built = True

    def call(self, inputs):
        """Draw noise and timesteps and predict.

        Args:
            inputs: dict of `latents` and `context`.

        Returns:
            A dict of `prediction` and `target`, both `(B, F, H, W, C)` float32.
        """
        unet_inputs, target = self.draw(inputs["latents"], inputs["context"])
        prediction = ops.cast(self.unet(unet_inputs), "float32")
        return {"prediction": prediction, "target": target}

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
        inputs = {"sample": sample, "timesteps": timesteps, "context": context}
        return inputs, self.schedule.target(latents, noise, timesteps)

    def _hint(self, latents):
        frames = latents.shape[1]
        spacing = min(self.hint_spacing or frames, frames)
        return ops.repeat(latents[:, ::spacing], spacing, axis=1)[:, :frames]

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        return ops.mean(ops.square(y_pred["target"] - y_pred["prediction"]))

    def get_config(self):
        return {
            **super().get_config(),
            "unet": keras.saving.serialize_keras_object(self.unet),
            "schedule": self.schedule.get_config(),
            "trainable": self.trainable_part,
            "hint_spacing": self.hint_spacing,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["unet"] = keras.saving.deserialize_keras_object(config["unet"])
        return cls(**config)
