"""The stages of a recipe as they run, one repeat after the other."""

from __future__ import annotations

from dataclasses import dataclass

from keras_makeavid.data import LatentLoader
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.recipes import Recipe
from keras_makeavid.recipes.schema import Data, Stage
from keras_makeavid.tasks import TextToVideo
from keras_makeavid.training.lora import matching_attentions
from keras_makeavid.training.trainable import matching_layers


@dataclass(frozen=True)
class Phase:
    """One repeat of a stage.

    Args:
        number: of the phase in the run, from 0.
        name: the stage's name, with the number of the repeat if there are several.
        stage: of the recipe.
        first_step: steps of the run before it.
        steps: its own.
        steps_per_epoch: whole batches in an epoch.
    """

    number: int
    name: str
    stage: Stage
    first_step: int
    steps: int
    steps_per_epoch: int

    def epoch(self, step: int) -> int:
        """The epoch, from 1, that a step of this phase, from 1, is in."""
        return (step - 1) // self.steps_per_epoch + 1


def plan_phases(recipe: Recipe) -> list[Phase]:
    """Lay out the steps of a run, and check its data on the way.

    Args:
        recipe: whose datasets are there.

    Raises:
        FileNotFoundError: if a dataset is missing.
        ValueError: if one is damaged, or a stage has not one whole step, or too few for
            its warm-up.
    """
    steps_per_epoch = {}
    phases, first_step = [], 0
    for stage in recipe.stage:
        if stage.data not in steps_per_epoch:
            loader = open_loader(stage.data, recipe.run.seed, scale=1.0)
            steps_per_epoch[stage.data] = loader.steps_per_epoch
        per_epoch = steps_per_epoch[stage.data]
        steps = stage.length.steps(per_epoch)
        if steps < 1:
            raise ValueError(
                f"stage.{stage.name}.length of {stage.length} is not one whole step of "
                f"{stage.data.batch_size} samples"
            )
        rate = stage.learning_rate
        warmup = rate.warmup.steps(per_epoch)
        most = steps - 1 if rate.decay == "cosine" else steps
        if warmup > most:
            raise ValueError(
                f"stage.{stage.name}.learning_rate.warmup of {rate.warmup} is {warmup} "
                f"steps, and {most} of the stage's {steps} may be"
            )
        for repeat in range(1, stage.repeats + 1):
            name = stage.name if stage.repeats == 1 else f"{stage.name}, run {repeat}"
            phases.append(Phase(len(phases), name, stage, first_step, steps, per_epoch))
            first_step += steps
    return phases


def open_loader(data: Data, seed: int, scale: float) -> LatentLoader:
    """The loader of a stage's data.

    Args:
        data: of the recipe.
        seed: of the run.
        scale: what the stored latents are multiplied by.
    """
    return LatentLoader(
        data.source,
        batch_size=data.batch_size,
        num_frames=data.frames,
        samples_per_epoch=data.samples_per_epoch,
        seed=seed,
        scale=scale,
        num_workers=data.workers,
        prefetch=data.prefetch,
    )


def check_data(phases: list[Phase], task: TextToVideo) -> None:
    """See that the datasets of all phases are such as the task's models make.

    Args:
        phases: of the run.
        task: that is trained.

    Raises:
        ValueError: if latents have other channels, or texts another width or length.
    """
    states = task.encode_prompts([""]).shape[1:]
    for data in {phase.stage.data for phase in phases}:
        batch = open_loader(data, seed=0, scale=1.0).batch(0)
        channels = batch["latents"].shape[-1]
        if channels != task.vae.latent_channels:
            raise ValueError(
                f"{data.source} has latents of {channels} channels; the preset's "
                f"have {task.vae.latent_channels}"
            )
        if batch["context"].shape[1:] != tuple(states):
            raise ValueError(
                f"{data.source} has text states {batch['context'].shape[1:]}; those of "
                f"the preset are {tuple(states)}"
            )


def check_patterns(phases: list[Phase], unet: UNetPseudo3D) -> None:
    """See that there is something to train in all phases.

    Args:
        phases: of the run.
        unet: that is trained.

    Raises:
        ValueError: if a stage's pattern matches nothing.
    """
    for stage in {phase.stage.name: phase.stage for phase in phases}.values():
        try:
            if stage.lora is not None:
                matching_attentions(unet, stage.lora.layers)
            else:
                matching_layers(unet, stage.trainable)
        except ValueError as error:
            raise ValueError(f"stage.{stage.name}: {error}") from error
