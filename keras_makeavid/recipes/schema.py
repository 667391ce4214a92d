"""What a recipe says: every table and key, with its default and its meaning."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from keras_makeavid.recipes.duration import Duration
from keras_makeavid.recipes.fields import (
    choice,
    duration,
    number,
    pattern,
    switch,
    table,
    text,
    texts,
    whole,
)

OBJECTIVES = ("video", "image", "autoencoder")
# The only source of pictures: clips are stored as latents.
PICTURES = "motions"
TRAINABLE_WORDS = ("temporal", "spatial", "all", "lora")


@dataclasses.dataclass(frozen=True)
class Run:
    """Where everything goes, and what chance it begins from.

    Args:
        folder: the run's folder: checkpoints, logs, samples and the trained preset.
        seed: of data, noise, timesteps and dropout.
    """

    folder: str = text()
    seed: int = whole(0)


@dataclasses.dataclass(frozen=True)
class Model:
    """What is trained.

    Args:
        preset: folder or handle of the `TextToVideo` preset to begin with.
        dtype: of the computation of the UNet, and of the VAE where pictures are learnt
            from; parameters are float32 in either.
        rematerialise: whether to compute the activations inside each residual block
            and transformer again in the backward pass, instead of keeping them; or
            `"feed_forward"`, only the widest.
    """

    preset: str = text()
    dtype: str = choice("float32", ("float32", "mixed_bfloat16"))
    rematerialise: bool | str = switch(False, or_one_of=("feed_forward",))


@dataclasses.dataclass(frozen=True)
class Data:
    """What it is trained on.

    Args:
        source: the latent dataset; of pictures `"motions"`, which are drawn
            (`keras_makeavid.data.motions`).
        batch_size: samples in a step, over all devices.
        frames: frames in a sample of a video.
        samples_per_epoch: samples in an epoch; one of each clip if not given.
        workers: processes that read ahead, besides threads.
        prefetch: batches read ahead.
    """

    source: str = text()
    batch_size: int = whole(1, least=1)
    frames: int = whole(24, least=1)
    samples_per_epoch: int | None = whole(None, least=1)
    workers: int = whole(0)
    prefetch: int = whole(2)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Keys that do not fit one another, and why."""
        samples = self.samples_per_epoch
        if samples is not None and self.batch_size > samples:
            yield (
                "batch_size",
                f"must be at most samples_per_epoch, {samples}. "
                f"Received: {self.batch_size}",
            )


@dataclasses.dataclass(frozen=True)
class Loss:
    """How the samples become a loss.

    Args:
        hint_spacing: frames between hints; the first frame only if not given.
        caption_dropout: share of samples that train with the empty prompt.
        min_snr_gamma: weighs timesteps by min-SNR; all count alike if not given.
        full_mask_share: share of images to paint of which nothing is given; of the
            others all but a rectangle is.
        kl_weight: weight of an autoencoder's divergence from the standard normal.
    """

    hint_spacing: int | None = whole(None, least=1)
    caption_dropout: float = number(0.0, least=0, below=1)
    min_snr_gamma: float | None = number(None, above=0)
    full_mask_share: float = number(0.5, least=0, most=1)
    kl_weight: float = number(1e-4, least=0)


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """AdamW.

    Args:
        accumulate: steps whose gradients make one update.
        clip_norm: norm of all gradients together above which they are scaled.
        weight_decay: decay of each weight an update, times the learning rate.
        beta_1: of the first moment.
        beta_2: of the second moment.
        epsilon: added to the root of the second moment.
        ema: momentum of the average of the weights; 0 keeps none.
    """

    accumulate: int = whole(1, least=1)
    clip_norm: float = number(1.0, above=0)
    weight_decay: float = number(0.02, least=0)
    beta_1: float = number(0.9, least=0, below=1)
    beta_2: float = number(0.999, least=0, below=1)
    epsilon: float = number(1e-8, above=0)
    ema: float = number(0.0, least=0, below=1)


@dataclasses.dataclass(frozen=True)
class LearningRate:
    """A linear warm-up to the peak, then constant or a cosine to `final`.

    Args:
        peak: the rate at the end of the warm-up.
        warmup: length of the warm-up.
        decay: what follows.
        final: the rate of the last step of a cosine.
    """

    peak: float = number(above=0)
    warmup: Duration = duration("0 steps")
    decay: str = choice("constant", ("constant", "cosine"))
    final: float = number(0.0, least=0)


@dataclasses.dataclass(frozen=True)
class Lora:
    """Low-rank adapters on the q, k, v and output layers of attention.

    Args:
        rank: of the adapters.
        alpha: their weight, times the rank.
        layers: which attentions; all if not given.
    """

    rank: int = whole(8, least=1)
    alpha: float = number(8.0, above=0)
    layers: str = pattern("attn")


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training, with its own optimizer; stages follow one another.

    Args:
        name: of the stage, in logs and in `--set stage.NAME.key=value`.
        length: how long it is.
        learning_rate: over its steps.
        objective: what is learnt: videos from latents; images from pictures, by the
            UNet without its temporal parts; or pictures themselves, by the VAE.
        trainable: what trains: `"temporal"`, `"spatial"`, `"all"`, `"lora"`, or a
            pattern.
        text_encoder: whether the text encoder trains with the UNet, of images.
        repeats: how many times it runs, each time with a new optimizer.
        lora: the adapters of `trainable = "lora"`.
        data: keys that differ from the recipe's `data` in this stage.
        loss: keys that differ from the recipe's `loss`.
        optimizer: keys that differ from the recipe's `optimizer`.
    """

    name: str = text()
    length: Duration = duration(least_steps=1)
    learning_rate: LearningRate = table(LearningRate)
    objective: str = choice("video", OBJECTIVES)
    trainable: str = pattern("temporal", words=TRAINABLE_WORDS)
    text_encoder: bool = switch(False)
    repeats: int = whole(1, least=1)
    lora: Lora | None = table(Lora, optional=True)
    data: Data | None = table(Data, optional=True)
    loss: Loss | None = table(Loss, optional=True)
    optimizer: Optimizer | None = table(Optimizer, optional=True)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Keys that do not fit one another, and why."""
        rate = self.learning_rate
        if rate.final > rate.peak:
            yield (
                "learning_rate.final",
                f"must be at most the peak, {rate.peak:g}. Received: {rate.final:g}",
            )
        if rate.final and rate.decay != "cosine":
            yield "learning_rate.final", "goes with decay = 'cosine'"
        if rate.warmup.unit == self.length.unit and (
            rate.warmup.amount > self.length.amount
        ):
            yield (
                "learning_rate.warmup",
                f"must be at most the length, {self.length}. Received: {rate.warmup}",
            )
        if self.lora and self.trainable != "lora":
            yield "lora", f"goes with trainable = 'lora'. Received: {self.trainable!r}"
        yield from self._objective_problems()

    def _objective_problems(self):
        if self.objective == "autoencoder" and self.trainable != "all":
            yield (
                "trainable",
                f"must be 'all' with objective = 'autoencoder'. "
                f"Received: {self.trainable!r}",
            )
        if self.objective == "image" and self.trainable in ("temporal", "lora", "all"):
            yield (
                "trainable",
                "must be 'spatial', or a pattern of spatial layers, with objective = "
                f"'image'. Received: {self.trainable!r}",
            )
        if self.text_encoder and self.objective != "image":
            yield (
                "text_encoder",
                f"goes with objective = 'image'. Received: {self.objective!r}",
            )
        if self.objective == "video":
            return
        # Of the stage's keys: `data` may be all stages' own.
        if self.data.source != PICTURES:
            yield (
                "objective",
                f"of {self.objective!r} needs data.source = {PICTURES!r}. "
                f"Received: {self.data.source!r}",
            )
        if self.data.samples_per_epoch is None:
            yield (
                "objective",
                f"of {self.objective!r} needs data.samples_per_epoch: pictures that "
                "are drawn have no end",
            )


@dataclasses.dataclass(frozen=True)
class Guard:
    """What happens when a loss or gradient is NaN or infinite.

    All but `enabled` may change when a run is continued, such as after it gave up.

    Args:
        enabled: whether such updates are skipped at all.
        patience: skipped steps in a row after which the run rolls back.
        lr_factor: what the learning rate is multiplied by at a roll-back, to the end
            of that stage, or of that repeat of it.
        max_rollbacks: roll-backs after which the run gives up.
    """

    enabled: bool = switch(True)
    patience: int = whole(10, least=1)
    lr_factor: float = number(0.5, above=0, most=1)
    max_rollbacks: int = whole(5)


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """What a run can be continued from.

    Args:
        every: how often one is written; also at the begin of a stage and at the end.
            Roll-backs go to these: it may not change when a run is continued.
        keep: how many of the last are kept.
        keep_best: how many of those with the lowest recent loss are kept besides.
    """

    every: Duration = duration("1 epoch", least_steps=1)
    keep: int = whole(3, least=1)
    keep_best: int = whole(1)


@dataclasses.dataclass(frozen=True)
class Logs:
    """What is told while it trains, besides `metrics.jsonl`.

    Args:
        every: steps between entries of TensorBoard and Weights & Biases.
        tensorboard: whether to write for TensorBoard.
        wandb: project of Weights & Biases to log to; none if not given.
    """

    every: int = whole(10, least=1)
    tensorboard: bool = switch(True)
    wandb: str | None = text(None)


@dataclasses.dataclass(frozen=True)
class Samples:
    """Videos that are generated while it trains.

    Args:
        prompts: one video each.
        every: how often.
        hints: pictures to set in motion, one for each prompt; none if not given.
        frames: frames of a video; as many as the data's if not given.
        steps: sampling steps.
        guidance: weight of the prompt; the preset's own if not given.
        fps: frames a second of the files; the preset's own if not given.
    """

    prompts: tuple[str, ...] = texts()
    every: Duration = duration("1 epoch", least_steps=1)
    hints: tuple[str, ...] = texts(())
    frames: int | None = whole(None, least=1)
    steps: int = whole(20, least=1)
    guidance: float | None = number(None)
    fps: float | None = number(None, above=0)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Keys that do not fit one another, and why."""
        if not self.prompts:
            yield "prompts", "must not be empty"
        if self.hints and len(self.hints) != len(self.prompts):
            yield (
                "hints",
                f"must be one for each of the {len(self.prompts)} prompts. "
                f"Received: {len(self.hints)}",
            )


@dataclasses.dataclass(frozen=True)
class Distribution:
    """The devices that train together, of one host or of several; under JAX alone.

    Args:
        fsdp: devices that hold one copy of parameters, optimizer state and averages
            together, each a part of it; all devices if there are fewer.
        coordinator: address and port of process 0, where several hosts train and
            neither the environment nor the cluster tells.
        processes: how many there are, likewise.
        process: the number of this one, from 0, likewise.
    """

    fsdp: int = whole(1, least=1)
    coordinator: str | None = text(None)
    processes: int | None = whole(None, least=1)
    process: int | None = whole(None)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Keys that do not fit one another, and why."""
        if None not in (self.process, self.processes) and (
            self.process >= self.processes
        ):
            yield (
                "process",
                f"must be below processes, {self.processes}. Received: {self.process}",
            )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A whole training.

    `data`, `loss` and `optimizer` are what the stages have in common; each stage's
    own, complete, are in it.

    Args:
        run: where it goes.
        model: what is trained.
        data: on what.
        stage: the stages, in their order.
        loss: how samples become a loss.
        optimizer: how gradients become updates.
        guard: what happens at NaNs.
        checkpoints: what a run can be continued from.
        logs: what is told.
        samples: videos generated meanwhile; none if not given.
        distribution: over which devices; one if not given.
    """

    run: Run = table(Run)
    model: Model = table(Model)
    data: Data = table(Data)
    stage: tuple[Stage, ...] = table(Stage)
    loss: Loss = table(Loss)
    optimizer: Optimizer = table(Optimizer)
    guard: Guard = table(Guard)
    checkpoints: Checkpoints = table(Checkpoints)
    logs: Logs = table(Logs)
    samples: Samples | None = table(Samples, optional=True)
    distribution: Distribution | None = table(Distribution, optional=True)
