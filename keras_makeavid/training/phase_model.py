"""From a phase of a recipe to a compiled training model."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.models.parts import TASK_DEFAULTS
from keras_makeavid.recipes import Recipe
from keras_makeavid.recipes.schema import Stage
from keras_makeavid.tasks import TextToVideo
from keras_makeavid.training.computation import rematerialise_blocks
from keras_makeavid.training.image_autoencoding import ImageAutoencoding
from keras_makeavid.training.image_diffusion import ImageDiffusion
from keras_makeavid.training.lora import add_lora, has_lora, without_lora
from keras_makeavid.training.optimizer import AdamW, WarmupSchedule
from keras_makeavid.training.phases import Phase
from keras_makeavid.training.training_model import ReportingModel
from keras_makeavid.training.video_diffusion import objective_of


def phase_task(task: TextToVideo, recipe: Recipe, phase: Phase) -> TextToVideo:
    """A task around the UNet as a phase trains it, with adapters added or merged.

    It is the task that the phase before left, where nothing changes.
    """
    lora = phase.stage.lora
    # A stage that says nothing goes on as those before it.
    until = recipe.stage.index(phase.stage) + 1
    for stage in recipe.stage[:until]:
        if stage.objective == "video" and stage.loss.given_frames is not None:
            task = with_parts(task, given_frames=stage.loss.given_frames)
    if has_lora(task.backbone):
        task = with_parts(task, backbone=without_lora(task.backbone))
    if lora is not None:
        # The programs that the old task has compiled do not know the adapters.
        task = with_parts(task)
    prepare_unet(task.backbone, recipe, phase.stage)
    return task


def prepare_unet(unet: UNetPseudo3D, recipe: Recipe, stage: Stage) -> None:
    """Give a UNet without adapters what a stage's training wants of its inside."""
    lora = stage.lora
    if lora is not None:
        add_lora(unet, lora.rank, lora.alpha, lora.layers, seed=recipe.run.seed)
    rematerialise_blocks(unet, recipe.model.rematerialise)


def with_parts(task: TextToVideo, **parts: Any) -> TextToVideo:
    """A task of the same parts but those given, as arguments of `TextToVideo`."""
    names = ("backbone", "preprocessor", "text_encoder", "vae", "image_backbone")
    kept = {name: getattr(task, name) for name in (*names, "schedule", *TASK_DEFAULTS)}
    return TextToVideo(**{**kept, **parts})


def phase_model(task: TextToVideo, recipe: Recipe, phase: Phase) -> ReportingModel:
    """The training model of a phase, compiled, its optimizer built."""
    stage = phase.stage
    # Phases would otherwise all draw the same noise.
    model = _MODELS[stage.objective](task, stage, seed=recipe.run.seed + phase.number)
    optimizer = _optimizer(phase, skip_nonfinite=recipe.guard.enabled)
    model.compile(optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    return model


def fit_input(objective: str, batch: dict[str, np.ndarray]) -> tuple:
    """A batch of a stage's loader in the form that `fit` takes."""
    return (batch["images"] if objective == "autoencoder" else batch,)


def _of_videos(task, stage, seed):
    model = objective_of(
        task,
        given_frames=stage.loss.given_frames,
        hint_spacing=stage.loss.hint_spacing,
        **_of_both(stage, seed),
    )
    if model.empty_context is not None:
        empty = ops.convert_to_numpy(task.encode_prompts([""])[0])
        model.empty_context.assign(empty)
    return model


def _of_images(task, stage, seed):
    return ImageDiffusion(
        task.backbone,
        task.vae,
        task.text_encoder,
        schedule=task.schedule,
        train_text_encoder=stage.text_encoder,
        full_mask_share=stage.loss.full_mask_share,
        empty_token_ids=task.preprocessor.tokenize("")[0],
        **_of_both(stage, seed),
    )


def _of_both(stage, seed):
    return {
        "trainable": stage.trainable,
        "caption_dropout": stage.loss.caption_dropout,
        "min_snr_gamma": stage.loss.min_snr_gamma,
        "seed": seed,
    }


def _of_an_autoencoder(task, stage, seed):
    return ImageAutoencoding(task.vae, stage.loss.kl_weight, seed)


def _optimizer(phase: Phase, skip_nonfinite: bool) -> AdamW:
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
        skip_nonfinite=skip_nonfinite,
        use_ema=options.ema > 0,
        ema_momentum=options.ema or 0.99,
        # Keras has no accumulation of 1.
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
    )


_MODELS = {
    "video": _of_videos,
    "image": _of_images,
    "autoencoder": _of_an_autoencoder,
}
