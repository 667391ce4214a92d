"""The stages of a recipe as they run, one repeat after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras_makeavid.data import LatentLoader, PictureFolder, PictureLoader
from keras_makeavid.data.clip_encoder import check_encoder
from keras_makeavid.data.loaders import BatchLoader, PictureSource
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.moving_shapes import MotionClips, square_size
from keras_makeavid.recipes import Duration, Recipe
from keras_makeavid.recipes.schema import DRAWN_PICTURES, Stage
from keras_makeavid.tasks import TextToVideo
from keras_makeavid.training.hosts import Hosts
from keras_makeavid.training.lora import matching_attentions
from keras_makeavid.training.trainable import check_spatial, matching_layers


@dataclass(frozen=True)
class Phase:
    """One repeat of a stage."""

    number: int
    # The stage's, with the number of the repeat if there are several.
    name: str
    stage: Stage
    # Steps of the run before it.
    first_step: int
    steps: int
    steps_per_epoch: int

    def epoch(self, step: int) -> int:
        """The epoch, from 1, that a step of this phase, from 1, is in."""
        return (step - 1) // self.steps_per_epoch + 1

    def interval(self, every: Duration) -> int:
        """Steps between what happens every so often, at least one."""
        return max(1, every.steps(self.steps_per_epoch))


def plan_phases(recipe: Recipe) -> list[Phase]:
    """Lay out the steps of a run, and check its data on the way."""
    steps_per_epoch = {}
    phases: list[Phase] = []
    first_step = 0
    objectives = {stage.objective for stage in recipe.stage}
    if len(objectives) > 1 and "autoencoder" in objectives:
        raise ValueError(
            "The latents of an autoencoder that trains have no fixed scale: it needs a "
            "recipe of its own. Received: stages of the objectives "
            f"{', '.join(sorted(objectives))}"
        )
    if "autoencoder" in objectives and recipe.model.rematerialise:
        raise ValueError(
            "model.rematerialise is of the UNet, which an autoencoder stage does not "
            "train. Received: true"
        )
    text = [stage.name for stage in recipe.stage if stage.text_encoder]
    if text and "video" in objectives:
        raise ValueError(
            f"stage.{text[0]} trains the text encoder, and the text states of a latent "
            "dataset are of the one before it: encode the dataset with the trained "
            "preset, and train the videos by a recipe of its own"
        )
    for stage in recipe.stage:
        key = stage.objective, stage.data
        if key not in steps_per_epoch:
            loader = open_loader(stage, recipe.run.seed)
            steps_per_epoch[key] = loader.steps_per_epoch
        per_epoch = steps_per_epoch[key]
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


def open_loader(
    stage: Stage,
    seed: int,
    task: TextToVideo | None = None,
    hosts: Hosts | None = None,
) -> BatchLoader:
    """The loader of a stage's data; each of several processes reads its own samples.

    Pictures are made for a task; without one only their number is asked for.
    """
    data = stage.data
    hosts = hosts or Hosts()
    options: dict[str, Any] = {
        "shard_index": hosts.number,
        "shard_count": hosts.count,
        "batch_size": data.batch_size,
        "samples_per_epoch": data.samples_per_epoch,
        "num_workers": data.workers,
        "prefetch": data.prefetch,
    }
    if stage.objective == "video":
        return LatentLoader(data.source, num_frames=data.frames, seed=seed, **options)
    captioned = stage.objective == "image"
    if data.source == DRAWN_PICTURES:
        size: dict[str, Any] = {"size": square_size(task)} if task else {}
        source: PictureSource = MotionClips(seed, **size)
    else:
        height, width = (task.height, task.width) if task else (1, 1)
        source = PictureFolder(data.source, height, width, seed, captioned)
    if not captioned:
        return PictureLoader(source, **options)
    # Image models make first frames: what is to move left begins on the right.
    tokenize = task.preprocessor.tokenize if task else None
    return PictureLoader(source, tokenize, moment=0.0, **options)


def check_data(
    recipe: Recipe, task: TextToVideo, allow_other_encoder: bool = False
) -> list[str]:
    """Make sure that the data of all stages are such as the task's models make.

    The result are notes for the user on what was assumed.
    """
    notes = []
    for stage in recipe.stage:
        if stage.objective != "video" and stage.data.source == DRAWN_PICTURES:
            square_size(task)
        if stage.objective == "image" and task.image_backbone is not None:
            raise ValueError(
                f"stage.{stage.name} would train the backbone, and the preset has an "
                "image_backbone that makes its first frames"
            )
    videos = [stage for stage in recipe.stage if stage.objective == "video"]
    states = tuple(task.encode_prompts([""]).shape[1:]) if videos else ()
    for data, stage in {stage.data: stage for stage in videos}.items():
        loader = open_loader(stage, seed=0)
        assert isinstance(loader, LatentLoader)
        batch = loader.batch(0)
        channels = batch["latents"].shape[-1]
        if channels != task.vae.latent_channels:
            raise ValueError(
                f"{data.source} has latents of {channels} channels; the preset's "
                f"have {task.vae.latent_channels}"
            )
        found = batch["context"].shape[1:]
        if found != states:
            raise ValueError(
                f"{data.source} has text states {found}; those of the preset are "
                f"{states}"
            )
        if not allow_other_encoder:
            note = check_encoder(loader.reader, task.vae, task.text_encoder)
            notes += [] if note is None else [note]
    return notes


def check_patterns(recipe: Recipe, unet: UNetPseudo3D) -> None:
    """Make sure that there is something to train in all stages."""
    for stage in recipe.stage:
        if stage.objective == "autoencoder":
            continue
        try:
            if stage.lora is not None:
                matching_attentions(unet, stage.lora.layers)
            else:
                layers = matching_layers(unet, stage.trainable)
                if stage.objective == "image":
                    check_spatial(layers, stage.trainable)
        except ValueError as error:
            raise ValueError(f"stage.{stage.name}: {error}") from error
