"""The training model: a UNet, a noise schedule, and what is drawn on the device."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.given_frames import REPEATED, GivenFrames
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.tensor import Tensor
from keras_makeavid.training.trainable import set_trainable
from keras_makeavid.training.training_model import DiffusionModel
from keras_makeavid.validation import refusal


class VideoDiffusion(DiffusionModel):
    """Trains a UNet on latent videos with plain `compile` and `fit`.

    It is for those who hold parts only: `TextToVideo.compile` makes one with all that
    the task knows. A batch is a dict of `latents` `(B, F, H, W, C)`, as the VAE's
    posterior gives them, in half precision if you like, and `context` `(B, L, D)`.
    Everything else is drawn or made on the device: timesteps, noise, and, for a UNet
    that takes them, the mask and hint of the frames that are given. The loss is the
    mean squared error of the prediction, in float32. One that is not finite makes every
    gradient so, for `AdamW` to skip.

    Args:
        unet: The `UNetPseudo3D` to train.
        schedule: The `NoiseSchedule` that the UNet was trained with.
        latent_scale: What latents are multiplied by: the VAE's `scaling_factor`.
        trainable: What trains, see `set_trainable`.
        given_frames: The `GivenFrames` that it fills videos in from, or the shares of
            its patterns. `None` is the published form, `"repeated"`.
        caption_dropout: Share of samples with the empty prompt, for guidance.
        empty_context: Text states `(L, D)` of the empty prompt, for `caption_dropout`.
        min_snr_gamma: Weighs the timesteps as `min_snr_weights`; `None` does not.
        seed: Seed of timesteps, noise and dropout.

    Raises:
        ValueError: If an argument is none of these, or nothing would train.

    Example:
    ```python
    unet = UNetPseudo3D(block_channels=(32, 64), attention_levels=(True, False))
    model = VideoDiffusion(unet, schedule=NoiseSchedule(), latent_scale=0.18215)
    model.compile(optimizer=AdamW(learning_rate=5e-5))
    latents, text = np.zeros((2, 8, 16, 16, 4)), np.zeros((2, 77, 768))
    model.fit({"latents": latents, "context": text}, batch_size=1)
    ```
    """

    EMPTY = "empty_context"

    def __init__(
        self,
        unet: UNetPseudo3D,
        *,
        schedule: NoiseSchedule,
        latent_scale: float,
        trainable: str = "temporal",
        given_frames: GivenFrames | Mapping[str, float] | None = None,
        caption_dropout: float = 0.0,
        empty_context: np.ndarray | None = None,
        min_snr_gamma: float | None = None,
        seed: int | None = None,
        **kwargs,
    ):
        empty, gamma = empty_context, min_snr_gamma
        super().__init__(unet, schedule, caption_dropout, empty, gamma, seed, **kwargs)
        if not isinstance(given_frames, GivenFrames):
            given_frames = GivenFrames(given_frames or REPEATED)
        if not isinstance(latent_scale, int | float) or not 0 < latent_scale < math.inf:
            raise refusal("latent_scale must be a positive number", latent_scale)
        self.latent_scale = latent_scale
        self.given_frames = given_frames
        self.empty_context = None
        if empty_context is not None:
            shape, name = np.shape(empty_context), "empty_context"
            self.empty_context = self.add_weight(
                shape, dtype="float32", trainable=False, name=name
            )
            self.empty_context.assign(empty_context)
        set_trainable(unet, trainable)
        self.built = True

    def call(self, inputs) -> dict[str, Tensor]:
        """Draw noise and timesteps for `latents` and `context`, and predict.

        The dict has `prediction` and `target`, both `(B, F, H, W, C)` float32, and
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
            conditions = self._conditions(latents)
            sample = ops.concatenate([noisy, *conditions], axis=-1)
        if self.caption_dropout:
            empty = ops.convert_to_tensor(self.empty_context)
            context = self.with_dropout(ops.cast(context, "float32"), empty)
        inputs = {"sample": sample, "timesteps": timesteps, "context": context}
        return inputs, target

    def _conditions(self, latents):
        """Mask `(B, F, H, W, 1)` and hint, for patterns drawn for each video."""
        patterns = list(self.given_frames.shares)
        given, held = map(np.array, self.given_frames.tables(latents.shape[1]))
        if len(held) == 1 and (held >= 0).all():
            return ops.zeros_like(latents[..., :1]), ops.take(latents, held[0], axis=1)
        is_random = np.array([[pattern == "random"] for pattern in patterns])
        batch, frames = ops.shape(latents)[0], latents.shape[1]
        drawn = keras.random.uniform(
            (batch, frames + 2), dtype="float32", seed=self.seed_generator
        )
        shares = np.array([*self.given_frames.shares.values()])
        bounds = ops.convert_to_tensor(np.cumsum(shares)[:-1] / shares.sum(), "float32")
        above = ops.greater_equal(drawn[:, :1], bounds)
        chosen = ops.sum(ops.cast(above, "int32"), axis=1)
        given, held, is_random = (
            ops.take(ops.convert_to_tensor(table), chosen, axis=0)
            for table in (given, held.astype("int32"), is_random)
        )
        given = ops.where(is_random, drawn[:, 2:] < drawn[:, 1:2], given)
        sources = ops.where(held < 0, nearest_given(given), held)
        hint = ops.take_along_axis(latents, sources[:, :, None, None, None], axis=1)
        some = ops.cast(ops.any(given, axis=1), "float32")
        mask = 1.0 - ops.cast(given, "float32")
        mask = ops.zeros_like(latents[..., :1]) + mask[:, :, None, None, None]
        return mask, hint * some[:, None, None, None, None]


def nearest_given(given: Any) -> Any:
    """The given frame nearest to each `(B, F)`, of two the earlier; any if none is."""
    frames = np.arange(given.shape[1])
    distance = np.abs(frames[:, None] - frames) + 0.25 * (frames > frames[:, None])
    far = ops.where(ops.expand_dims(given, 1), 0.0, 2.0 * len(frames))
    distance = ops.convert_to_tensor(distance, "float32")
    return ops.cast(ops.argmin(distance + far, axis=-1), "int32")


def objective_of(
    task: Any,
    caption_dropout: float,
    kind: type[VideoDiffusion] | None = None,
    **options: Any,
) -> VideoDiffusion:
    """Make the objective of a `TextToVideo`; states of the empty prompt are zeros.

    If options say nothing of given frames, they are what the task was trained with. A
    `kind` other than `VideoDiffusion` always has states of the empty prompt.
    """
    if options["given_frames"] is None:
        options["given_frames"] = task.given_frames
    empty = task.preprocessor.sequence_length, task.backbone.context_dim
    has_empty = caption_dropout or kind is not None
    return (kind or VideoDiffusion)(
        task.backbone,
        schedule=task.schedule,
        latent_scale=task.vae.scaling_factor,
        caption_dropout=caption_dropout,
        empty_context=np.zeros(empty, "float32") if has_empty else None,
        **options,
    )
