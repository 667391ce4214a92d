"""The training model that makes a few-step model of one that needs many steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.devices import shard_batch
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.schedulers.single_step import SIGMA_DATA, TIMESTEP_SCALING
from keras_makeavid.tensor import Tensor
from keras_makeavid.training.trainable import adapters_off, without_lora
from keras_makeavid.training.video_diffusion import VideoDiffusion


class ConsistencyDistillation(VideoDiffusion):
    """Distils a UNet into one that jumps to the clean latents: for `LCM`, 1 to 8 steps.

    Latent consistency distillation (Luo et al., arXiv 2310.04378, algorithm 1). The
    teacher is the UNet as it is when this model is made, or the same UNet without its
    adapters if these alone train. It takes one DDIM step, with guidance, from one
    timestep of a grid to the next. The UNet learns to jump from
    before the step to where its own average jumps to from behind it. At timestep 0 a
    jump is the identity. Guidance goes into the weights: the UNet is sampled without.

    Args:
        unet: The `UNetPseudo3D` to train. It has the weights of the teacher. With
            `trainable="lora"` both share them: nothing is held twice.
        empty_context: Text states `(L, D)` of the empty prompt, for guidance.
        guidance: Least and most guidance of the teacher, drawn for each sample.
        grid: Number of timesteps of the grid, evenly spaced: the sampler's
            `original_inference_steps`.
        ema: Decay of the average, in `[0, 1)`; 0 takes the UNet itself in its place.
        huber: The loss is `sqrt(error**2 + huber**2) - huber`: about the error's size
            where that is larger.
        **kwargs: As for `VideoDiffusion`, such as `schedule`, `latent_scale`,
            `trainable` and `given_frames`.

    Raises:
        ValueError: If a number makes no sense.

    Example:
    ```python
    unet = UNetPseudo3D(block_channels=(32, 64), attention_levels=(True, False))
    model = ConsistencyDistillation(
        unet,
        schedule=NoiseSchedule(),
        latent_scale=0.18215,
        empty_context=np.zeros((77, 768), "float32"),
        guidance=(4.0, 8.0),
    )
    model.compile(optimizer=AdamW(learning_rate=1e-5))
    latents = keras.random.normal((2, 8, 16, 16, 4))
    text = keras.random.normal((2, 77, 768))
    model.fit({"latents": latents, "context": text}, batch_size=1)
    ```
    """

    def __init__(
        self,
        unet: UNetPseudo3D,
        *,
        empty_context: np.ndarray,
        guidance: Sequence[float] = (7.5, 7.5),
        grid: int = 50,
        ema: float = 0.95,
        huber: float = 1e-3,
        **kwargs: Any,
    ):
        super().__init__(unet, empty_context=empty_context, **kwargs)
        low, high = guidance
        train_steps = self.schedule.num_train_steps
        if not low <= high or not 1 <= grid <= train_steps:
            raise ValueError(
                "guidance must be two numbers, the lower first, and grid from 1 to "
                f"{train_steps}. Received: guidance={guidance}, grid={grid}"
            )
        if not 0 <= ema < 1 or not huber > 0:
            raise ValueError(
                "ema must be in [0, 1), and huber above 0. "
                f"Received: ema={ema}, huber={huber}"
            )
        self.guidance, self.grid = [low, high], grid
        self.ema, self.huber = ema, huber
        self.teacher = None
        if kwargs.get("trainable") != "lora":
            self.teacher = without_lora(unet)
            self.teacher.trainable = False
        self.average = None
        if ema:
            self.average = _copy(unet)
            self.average.trainable = False

    def call(self, inputs, training: bool | None = None) -> dict[str, Tensor]:
        """Draw noise and timesteps for `latents` and `context`, and jump.

        Returns:
            A dict of `prediction` and `target`, both `(B, F, H, W, C)` float32.
        """
        if training and self.average is not None:
            self._follow()
        latents = ops.cast(inputs["latents"], "float32") * self.latent_scale
        context = ops.cast(inputs["context"], "float32")
        empty = ops.broadcast_to(
            ops.convert_to_tensor(self.empty_context), ops.shape(context)
        )
        if self.caption_dropout:
            context = self.with_dropout(context, empty)
        conditions = []
        if self.unet.in_channels > self.unet.out_channels:
            conditions = self._conditions(latents)

        batch, seed = ops.shape(latents)[0], self.seed_generator
        skipped = self.schedule.num_train_steps // self.grid
        number = keras.random.randint((batch,), 1, self.grid + 1, seed=seed)
        later = number * skipped - 1
        earlier = ops.maximum(later - skipped, 0)
        noise = keras.random.normal(ops.shape(latents), dtype="float32", seed=seed)
        noisy = self.schedule.add_noise(latents, noise, later)
        guidance = keras.random.uniform((batch, 1, 1, 1, 1), *self.guidance, seed=seed)

        def predict(unet, sample, timesteps, context):
            asked = {"sample": sample, "timesteps": timesteps, "context": context}
            return ops.cast(unet(asked), "float32")

        def jump(unet, sample, timesteps):
            inputs = ops.concatenate([sample, *conditions], axis=-1)
            told = predict(unet, inputs, timesteps, context)
            clean, _ = self.schedule.clean_and_noise(sample, told, timesteps)
            scaled = ops.cast(timesteps, "float32") * TIMESTEP_SCALING
            scaled = ops.reshape(scaled, (-1, 1, 1, 1, 1))
            distance = ops.sqrt(scaled**2 + SIGMA_DATA**2)
            return (SIGMA_DATA / distance) ** 2 * sample + scaled / distance * clean

        inputs = ops.concatenate([noisy, *conditions], axis=-1)
        twice = (
            shard_batch(ops.concatenate(pair, axis=0))
            for pair in ((inputs, inputs), (later, later), (empty, context))
        )
        if self.teacher is None:
            with adapters_off(self.unet):
                both = predict(self.unet, *twice)
        else:
            both = predict(self.teacher, *twice)
        unguided, guided = map(shard_batch, ops.split(ops.stop_gradient(both), 2))
        told = unguided + guidance * (guided - unguided)
        parts = self.schedule.clean_and_noise(noisy, told, later)
        moved = self.schedule.add_noise(*parts, earlier)
        target = jump(self.average or self.unet, ops.stop_gradient(moved), earlier)
        return {
            "prediction": jump(self.unet, noisy, later),
            "target": ops.stop_gradient(target),
        }

    def errors(self, difference: Any) -> Any:
        return ops.sqrt(ops.square(difference) + self.huber**2) - self.huber

    def _follow(self):
        """Let the average follow the weights that the step before made."""
        for average, own in zip(
            self.average.variables, self.unet.variables, strict=True
        ):
            if own.trainable:
                own = ops.stop_gradient(ops.convert_to_tensor(own))
                average.assign(self.ema * average + (1.0 - self.ema) * own)


def _copy(unet):
    """A UNet of the same weights, and adapters if there are any."""
    copy = type(unet).from_config(unet.get_config())
    for old, new in zip(
        unet._flatten_layers(include_self=False),
        copy._flatten_layers(include_self=False),
        strict=True,
    ):
        if getattr(old, "lora_enabled", False):
            new.enable_lora(old.lora_rank, lora_alpha=old.lora_alpha)
    for old, new in zip(unet.variables, copy.variables, strict=True):
        # A buffer of its own: JAX donates both to the training step.
        new.assign(ops.copy(old))
    return copy
