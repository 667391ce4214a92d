"""The training model: a UNet, a noise schedule, and what is drawn on the device."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.tensor import Tensor
from keras_makeavid.training.trainable import set_trainable
from keras_makeavid.training.training_model import DiffusionModel


@keras.saving.register_keras_serializable(package="keras_makeavid")
class VideoDiffusion(DiffusionModel):
    """Trains a UNet on latent videos with plain `compile` and `fit`.

    It is for those who hold parts only: `TextToVideo.compile` makes one with all that
    the task knows. A batch is a dict of `latents` `(B, F, H, W, C)`, as the VAE's
    posterior gives them, in half precision if you like, and `context` `(B, L, D)`.
    Everything else is drawn or made on the device: timesteps, noise, and, for a UNet
    that takes them, hint (the first frame's latent, repeated) and mask (zeros). The
    loss is the mean squared error of the prediction, in float32. One that is not finite
    makes every gradient so, for `AdamW` to skip.

    Args:
        unet: The `UNetPseudo3D` to train.
        schedule: The `NoiseSchedule` that the UNet was trained with, or its config.
        latent_scale: What latents are multiplied by, in float32: `scaling_factor` of
            the VAE that encoded them.
        trainable: What trains, see `set_trainable`.
        hint_spacing: The hint is every `hint_spacing`-th frame, repeated that many
            times; `None` is the first frame only.
        caption_dropout: Share of the samples that train with the empty prompt instead
            of theirs, for guidance.
        empty_context: Text states `(L, D)` of the empty prompt, for `caption_dropout`.
        min_snr_gamma: Weighs the timesteps as `min_snr_weights`; `None` does not.
        seed: Seed of timesteps, noise and dropout.

    Example:
    ```python
    unet = UNetPseudo3D(block_channels=(32, 64), attention_levels=(True, False))
    model = VideoDiffusion(unet, schedule=NoiseSchedule(), latent_scale=0.18215)
    model.compile(optimizer=AdamW(learning_rate=5e-5))
    latents = keras.random.normal((2, 8, 16, 16, 4))
    text = keras.random.normal((2, 77, 768))
    model.fit({"latents": latents, "context": text}, batch_size=1)
    ```
    """

    PARTS = ("unet",)

    def __init__(
        self,
        unet: UNetPseudo3D,
        *,
        schedule: NoiseSchedule | dict,
        latent_scale: float,
        trainable: str = "temporal",
        hint_spacing: int | None = None,
        caption_dropout: float = 0.0,
        empty_context: np.ndarray | None = None,
        min_snr_gamma: float | None = None,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(
            schedule,
            caption_dropout,
            min_snr_gamma,
            seed,
            **{"dtype": unet.dtype_policy, **kwargs},
        )
        if hint_spacing is not None and hint_spacing < 1:
            raise ValueError(
                f"hint_spacing must be None or at least 1. Received: {hint_spacing}"
            )
        if not isinstance(latent_scale, int | float) or not 0 < latent_scale < math.inf:
            raise ValueError(
                f"latent_scale must be a positive number. Received: {latent_scale!r}"
            )
        if caption_dropout and empty_context is None:
            raise ValueError(
                f"caption_dropout={caption_dropout} needs empty_context. Received: None"
            )
        self.unet = unet
        self.latent_scale = latent_scale
        self.trainable_part = trainable
        self.hint_spacing = hint_spacing
        self.empty_context = None
        if empty_context is not None:
            self.empty_context = self.add_weight(
                shape=np.shape(empty_context),
                dtype="float32",
                trainable=False,
                name="empty_context",
            )
            self.empty_context.assign(empty_context)
        set_trainable(unet, trainable)
        self.built = True

    def call(self, inputs) -> dict[str, Tensor]:
        """Draw noise and timesteps for `latents` and `context`, and predict.

        Returns:
            A dict of `prediction` and `target`, both `(B, F, H, W, C)` float32, and
            `weights` `(B,)` if the timesteps are weighed.
        """
        unet_inputs, target = self.draw(inputs["latents"], inputs["context"])
        prediction = self.unet(unet_inputs)
        return self.outputs(prediction, target, unet_inputs["timesteps"])

    def draw(self, latents, context) -> tuple[dict[str, Tensor], Tensor]:
        """Make the UNet's inputs and the target `(B, F, H, W, C)` of a batch.

        Latents `(B, F, H, W, C)` are not scaled yet; the context is `(B, L, D)`.
        """
        latents = ops.cast(latents, "float32") * self.latent_scale
        noisy, timesteps, target = self.noised(latents)
        sample = noisy
        if self.unet.in_channels > self.unet.out_channels:
            mask = ops.zeros_like(latents[..., :1])
            sample = ops.concatenate([noisy, mask, self._hint(latents)], axis=-1)
        if self.caption_dropout:
            empty = ops.convert_to_tensor(self.empty_context)
            context = self.with_dropout(ops.cast(context, "float32"), empty)
        inputs = {"sample": sample, "timesteps": timesteps, "context": context}
        return inputs, target

    def _hint(self, latents):
        frames = latents.shape[1]
        spacing = min(self.hint_spacing or frames, frames)
        return ops.repeat(latents[:, ::spacing], spacing, axis=1)[:, :frames]

    def get_config(self) -> dict[str, Any]:
        shape = None if self.empty_context is None else list(self.empty_context.shape)
        return {
            **super().get_config(),
            "latent_scale": self.latent_scale,
            "trainable": self.trainable_part,
            "hint_spacing": self.hint_spacing,
            # The values are a weight, and come with the weights.
            "empty_context": shape,
        }

    @classmethod
    def from_config(cls, config):
        shape = config["empty_context"]
        empty_context = None if shape is None else np.zeros(shape, "float32")
        return super().from_config({**config, "empty_context": empty_context})


def objective_of(task: Any, caption_dropout: float, **options: Any) -> VideoDiffusion:
    """Make the objective of a `TextToVideo`; states of the empty prompt are zeros."""
    empty = task.preprocessor.sequence_length, task.backbone.context_dim
    return VideoDiffusion(
        task.backbone,
        schedule=task.schedule,
        latent_scale=task.vae.scaling_factor,
        caption_dropout=caption_dropout,
        empty_context=np.zeros(empty, "float32") if caption_dropout else None,
        **options,
    )
