"""The stages of a recipe as they run: their steps, their data and their models."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import msgspec
import numpy as np
from keras import ops

from keras_makeavid.data import LatentLoader, PictureFolder, PictureLoader
from keras_makeavid.data.clip_encoder import check_encoder
from keras_makeavid.data.loaders import BatchLoader
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.models.parts import TASK_DEFAULTS
from keras_makeavid.moving_shapes import MotionClips, square_size
from keras_makeavid.recipes import Duration, Recipe
from keras_makeavid.recipes.schema import DRAWN_PICTURES, Distillation, Stage
from keras_makeavid.tasks import TextToVideo
from keras_makeavid.training.distillation import ConsistencyDistillation
from keras_makeavid.training.distribution import Hosts
from keras_makeavid.training.image_objectives import ImageAutoencoding, ImageDiffusion
from keras_makeavid.training.optimizer import AdamW, WarmupSchedule
from keras_makeavid.training.trainable import (
    adaptable_layers,
    add_lora,
    check_spatial,
    has_lora,
    matching_layers,
    without_lora,
)
from keras_makeavid.training.training_model import ReportingModel
from keras_makeavid.training.video_diffusion import objective_of


@dataclass(frozen=True)
class Phase:
    """One repeat of a stage."""

    number: int
    name: str  # The stage's, with the number of the repeat if there are several.
    stage: Stage
    first_step: int  # Steps of the run before it.
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
    if text and any(stage.trains_on_latents for stage in recipe.stage):
        raise ValueError(
            f"stage.{text[0]} trains the text encoder, and the text states of a latent "
            "dataset are of the one before it: encode the dataset with the trained "
            "preset, and train the videos by a recipe of its own"
        )
    for stage in recipe.stage:
        key = stage.objective, stage.data
        if key not in steps_per_epoch:
            steps_per_epoch[key] = open_loader(stage, recipe.run.seed).steps_per_epoch
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
    stage: Stage, seed: int, task: TextToVideo | None = None, hosts: Hosts | None = None
) -> BatchLoader:
    """The loader of this process's part of a stage's data; without a task, to count."""
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
    if stage.trains_on_latents:
        return LatentLoader(data.source, num_frames=data.frames, seed=seed, **options)
    captioned = stage.objective == "image"
    if data.source == DRAWN_PICTURES:
        size = square_size(task) if task else 64
        source: Any = MotionClips(seed, size=size)
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
    """Refuse data that the task's models do not fit; note what was assumed of them."""
    notes = []
    for stage in recipe.stage:
        if not stage.trains_on_latents and stage.data.source == DRAWN_PICTURES:
            square_size(task)
        if stage.objective == "image" and task.image_backbone is not None:
            raise ValueError(
                f"stage.{stage.name} would train the backbone, and the preset has an "
                "image_backbone that makes its first frames: model.image_model = false "
                "leaves it out"
            )
    videos = [stage for stage in recipe.stage if stage.trains_on_latents]
    states = tuple(task.encode_prompts([""]).shape[1:]) if videos else ()
    for data, stage in {stage.data: stage for stage in videos}.items():
        loader = open_loader(stage, seed=0)
        assert isinstance(loader, LatentLoader)
        batch = loader.batch(0)
        channels = batch["latents"].shape[-1]
        if channels != task.vae.latent_channels:
            problem = f"{data.source} has latents of {channels} channels"
            raise ValueError(f"{problem}; the preset's have {task.vae.latent_channels}")
        found = batch["context"].shape[1:]
        if found != states:
            problem = f"{data.source} has text states {found}"
            raise ValueError(f"{problem}; those of the preset are {states}")
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
                adaptable_layers(unet, stage.lora.layers)
            else:
                layers = matching_layers(unet, stage.trainable)
                if stage.objective == "image":
                    check_spatial(layers, stage.trainable)
        except ValueError as error:
            raise ValueError(f"stage.{stage.name}: {error}") from error


def with_image_model(task: TextToVideo, recipe: Recipe) -> TextToVideo:
    """The task, without its model of first frames if the recipe leaves that out."""
    if recipe.model.image_model or task.image_backbone is None:
        return task
    shares = task.given_frames
    for stage in recipe.stage:
        if stage.trains_on_latents and stage.loss.given_frames is not None:
            shares = dict(stage.loss.given_frames.shares)
    if "none" not in shares:
        raise ValueError(
            "model.image_model = false leaves first frames to the UNet, which must be "
            f"trained with given_frames of 'none'. Received: {shares}"
        )
    return with_parts(task, image_backbone=None)


def phase_task(
    task: TextToVideo, recipe: Recipe, phase: Phase, before: Phase
) -> TextToVideo:
    """The task as a phase trains it: a new one if other adapters train than before."""
    # A stage that says nothing goes on as those before it.
    for stage in recipe.stage[: recipe.stage.index(phase.stage) + 1]:
        if stage.trains_on_latents and stage.loss.given_frames is not None:
            task = with_parts(task, given_frames=stage.loss.given_frames)
    if has_lora(task.backbone):
        one, other = before.stage, phase.stage
        if (one.lora, one.objective) == (other.lora, other.objective):
            return task
        task = with_parts(task, backbone=without_lora(task.backbone))
    if phase.stage.lora is not None:
        # The programs that the old task has compiled do not know the adapters.
        task = with_parts(task)
    prepare_unet(task.backbone, recipe, phase.stage)
    return task


def prepare_unet(unet: UNetPseudo3D, recipe: Recipe, stage: Stage) -> None:
    """Give a UNet without adapters what a stage's training wants of its inside."""
    if lora := stage.lora:
        add_lora(unet, lora.rank, lora.alpha, lora.layers, seed=recipe.run.seed)
    rematerialise_blocks(unet, recipe.model.rematerialise)


def with_parts(task: TextToVideo, **parts: Any) -> TextToVideo:
    """A task of the same parts but those given, as arguments of `TextToVideo`."""
    names = ("backbone", "preprocessor", "text_encoder", "vae", "image_backbone")
    kept = {name: getattr(task, name) for name in (*names, "schedule", *TASK_DEFAULTS)}
    return TextToVideo(**{**kept, **parts})


def phase_model(task: TextToVideo, recipe: Recipe, phase: Phase) -> ReportingModel:
    """The training model of a phase, compiled, its optimizer built."""
    # Phases would otherwise all draw the same noise.
    model = _objective_model(task, phase.stage, recipe.run.seed + phase.number)
    optimizer = _optimizer(phase)
    model.compile(optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    return model


def fit_input(objective: str, batch: dict[str, np.ndarray]) -> tuple:
    """A batch of a stage's loader in the form that `fit` takes."""
    return (batch["images"] if objective == "autoencoder" else batch,)


def _objective_model(task, stage, seed):
    if stage.objective == "autoencoder":
        return ImageAutoencoding(task.vae, stage.loss.kl_weight, seed)
    options = {
        "trainable": stage.trainable,
        "caption_dropout": stage.loss.caption_dropout,
        "min_snr_gamma": stage.loss.min_snr_gamma,
        "seed": seed,
    }
    if stage.objective == "image":
        return ImageDiffusion(
            task.backbone,
            task.vae,
            task.text_encoder,
            schedule=task.schedule,
            train_text_encoder=stage.text_encoder,
            full_mask_share=stage.loss.full_mask_share,
            empty_token_ids=task.preprocessor.tokenize("")[0],
            **options,
        )
    if stage.objective == "distillation":
        # No weight of its own for any timestep.
        del options["min_snr_gamma"]
        how = msgspec.structs.asdict(stage.distillation or Distillation())
        options |= {"kind": ConsistencyDistillation, **how}
    model = objective_of(task, given_frames=stage.loss.given_frames, **options)
    if model.empty_context is not None:
        model.empty_context.assign(ops.convert_to_numpy(task.encode_prompts([""])[0]))
    return model


def _optimizer(phase: Phase) -> AdamW:
    rate, options = phase.stage.learning_rate, phase.stage.optimizer
    accumulate = options.accumulate
    schedule = WarmupSchedule(
        rate.peak,
        warmup_steps=rate.warmup.steps(phase.steps_per_epoch),
        decay=rate.decay,
        total_steps=phase.steps,
        final=rate.final,
    )
    return AdamW(
        schedule,
        weight_decay=options.weight_decay,
        beta_1=options.beta_1,
        beta_2=options.beta_2,
        epsilon=options.epsilon,
        global_clipnorm=options.clip_norm,
        use_ema=options.ema > 0,
        ema_momentum=options.ema or 0.99,
        # Keras has no accumulation of 1.
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
    )


def set_dtype_policy(model: keras.Model, policy: str) -> None:
    """Let a built model and all its layers compute by another dtype policy."""
    wanted = keras.dtype_policies.get(policy)
    if wanted.variable_dtype != model.variable_dtype:
        problem = f"The model's parameters are {model.variable_dtype}"
        raise ValueError(f"{problem}; {wanted.name} has {wanted.variable_dtype}")
    for layer in model._flatten_layers():
        layer.dtype_policy = wanted


@contextmanager
def dtype_policy(model: keras.Model, policy: str) -> Iterator[None]:
    """Let a model compute otherwise, as `set_dtype_policy`, while a block runs."""
    before = model.dtype_policy.name
    set_dtype_policy(model, policy)
    try:
        yield
    finally:
        set_dtype_policy(model, before)


def rematerialise_blocks(unet: UNetPseudo3D, rematerialise: bool | str = True) -> None:
    """Compute the inside of residual blocks and transformers again for gradients.

    Only what passes between them is kept, for a second forward pass of each. Of the
    feed-forwards alone, `"feed_forward"`, two fifths of all activations are not kept;
    `False` keeps everything again. Call it before the training function is compiled.

    Example:
    ```python
    unet = UNetPseudo3D(block_channels=(32, 64), attention_levels=(True, False))
    rematerialise_blocks(unet)
    ```
    """
    network = unet.network
    for block in (*network.down_blocks, network.mid_block, *network.up_blocks):
        block.rematerialise = rematerialise is True
        for attention in block.attentions:
            transformer = attention.transformer_block
            transformer.rematerialise_feed_forward = rematerialise == "feed_forward"
