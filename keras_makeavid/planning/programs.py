"""The programs of a recipe, lowered for devices that are not there."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.planning.abstract import abstract_batch, build_abstract
from keras_makeavid.recipes import Recipe
from keras_makeavid.recipes.schema import Stage
from keras_makeavid.sampling import DenoisingLoop
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.training.computation import set_dtype_policy
from keras_makeavid.training.phase_model import fit_input, phase_model, prepare_unet
from keras_makeavid.training.phases import Phase
from keras_makeavid.training.reporting import ReportingModel

# What a schedule's steps are does not change the program, but for their number.
_STEPS_PER_EPOCH = 1000
_TOKENS = 77


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of a sample that a recipe leaves to the dataset.

    Args:
        height: of the video in pixels.
        width: of the video in pixels.
        tokens: of a prompt.
    """

    height: int = 512
    width: int = 512
    tokens: int = _TOKENS

    @property
    def latents(self) -> tuple[int, int]:
        """Height and width of the latents of Stable Diffusion's VAE."""
        return self.height // 8, self.width // 8


class AbstractTask:
    """The parts of a `TextToVideo` that train on latents, without weights.

    Args:
        unet: makes the UNet.
        schedule: it was trained with.
        tokens: of a prompt.

    Example:
    ```python
    AbstractTask(UNetPseudo3D, NoiseSchedule(), tokens=77)
    ```
    """

    def __init__(
        self, unet: Callable[[], UNetPseudo3D], schedule: NoiseSchedule, tokens: int
    ):
        self.backbone = unet()
        self.schedule = schedule
        # Its value is none of a program's shape.
        self.vae = types.SimpleNamespace(scaling_factor=1.0)
        self._tokens = tokens

    def encode_prompts(self, prompts: list[str]) -> np.ndarray:
        """Text states of the right shape."""
        return np.zeros((len(prompts), self._tokens, self.backbone.context_dim))


def unet_maker(preset: str) -> Callable[[], UNetPseudo3D]:
    """What makes the UNet of a preset.

    Args:
        preset: of the recipe; the published model's UNet where there is no such folder.

    Example:
    ```python
    unet = unet_maker("presets/of_another_machine")()  # 1,100,578,616 parameters
    ```
    """
    if not Path(preset).is_dir():
        return UNetPseudo3D
    return lambda: UNetPseudo3D.from_preset(preset, load_weights=False)


def training_model(recipe: Recipe, stage: Stage, sizes: Sizes) -> ReportingModel:
    """The compiled training model of a stage, as `train` makes it, without weights.

    Args:
        recipe: of the training.
        stage: one of its stages, of videos.
        sizes: of a sample.

    Raises:
        ValueError: if the stage trains another thing than videos.
    """
    if stage.objective != "video":
        raise ValueError(
            f"Only training of videos can be planned. Received: stage.{stage.name} "
            f"with the objective {stage.objective!r}"
        )
    steps = stage.length.steps(_STEPS_PER_EPOCH)
    phase = Phase(0, stage.name, stage, 0, steps, _STEPS_PER_EPOCH)
    make_unet = unet_maker(recipe.model.preset)

    def make():
        task = AbstractTask(make_unet, NoiseSchedule(), sizes.tokens)
        set_dtype_policy(task.backbone, recipe.model.dtype)
        prepare_unet(task.backbone, recipe, stage)
        return phase_model(task, recipe, phase)

    return build_abstract(make)


def lower_training_step(
    model: ReportingModel, stage: Stage, batch_size: int, sizes: Sizes
) -> Any:
    """Lower the step that `fit` compiles.

    Args:
        model: what `training_model` made.
        stage: that it trains.
        batch_size: samples over all devices.
        sizes: of a sample.

    Returns:
        A `jax.stages.Lowered`.
    """
    unet = model.unet
    latents = (batch_size, stage.data.frames, *sizes.latents, unet.out_channels)
    context = (batch_size, sizes.tokens, unet.context_dim)
    batch = {
        "latents": abstract_batch(latents, "float16"),
        "context": abstract_batch(context, "float16"),
    }
    model.make_train_function()
    state = model._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
    )
    return _jitted(model.train_function).lower(state, fit_input("video", batch))


def lower_sampling(
    recipe: Recipe, frames: int, batch_size: int, sizes: Sizes
) -> tuple[UNetPseudo3D, Any]:
    """Lower the guided sampling of videos, of which the loop's body is one step.

    Args:
        recipe: whose preset and dtype are taken.
        frames: of a video.
        batch_size: videos over all devices.
        sizes: of a video.

    Returns:
        The UNet without weights and a `jax.stages.Lowered`.
    """
    make_unet = unet_maker(recipe.model.preset)

    def make():
        unet = make_unet()
        set_dtype_policy(unet, recipe.model.dtype)
        return unet

    unet = build_abstract(make)
    lowered = DenoisingLoop(unet).lower(
        abstract_batch(
            (batch_size, frames, *sizes.latents, unet.out_channels), "float32"
        ),
        abstract_batch((batch_size, sizes.tokens, unet.context_dim), "float32"),
    )
    return unet, lowered


def _jitted(train_function):
    """The compiled function inside Keras's, which takes an iterator.

    Keras (backend/jax/trainer.py, `make_train_function`) keeps no other name of it.
    """
    (cell,) = train_function.__closure__
    return cell.cell_contents
