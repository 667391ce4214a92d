"""What a recipe says: every table and key, with its default (docs/train.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from keras_makeavid.given_frames import Shares
from keras_makeavid.validation import Table

# The source of pictures that are drawn. Any other is a folder.
DRAWN_PICTURES = "motions"

_DURATION = re.compile(r"(\d+(?:\.\d+)?) (epoch|step)s?")
_LENGTH = "a duration such as '2 epochs', '0.5 epochs' or '1000 steps'"
_LAYERS = "a regular expression on the paths of layers"

Text = Annotated[str, Meta(pattern=r"\S")]
Texts = Annotated[
    tuple[Text, ...], Meta(description="a list of strings that are not empty")
]
Natural = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Above0 = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
BelowOne = Annotated[float, Meta(ge=0, lt=1)]


@dataclass(frozen=True)
class Duration:
    """An `amount`, whole or not, of `"epochs"` or of `"steps"`.

    Example:
    ```python
    Duration.parse("0.5 epochs").steps(steps_per_epoch=2_500)  # 1250
    ```
    """

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read a text such as `"0.5 epochs"` or `"1000 steps"`, else a `ValueError`."""
        match = _DURATION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"A duration is such as '2 epochs'. Received: {text!r}")
        amount, unit = float(match[1]), f"{match[2]}s"
        if unit == "steps" and amount != int(amount):
            raise ValueError(f"Steps must be a whole number. Received: {text!r}")
        return cls(amount, unit)

    def steps(self, steps_per_epoch: int) -> int:
        """Count the steps of this length, rounded."""
        factor = steps_per_epoch if self.unit == "epochs" else 1
        return round(self.amount * factor)

    def __str__(self) -> str:
        whole = self.amount == int(self.amount)
        amount = str(int(self.amount)) if whole else repr(self.amount)
        return f"{amount} {self.unit[:-1] if self.amount == 1 else self.unit}"


def _check_above_0(length: Duration) -> None:
    if not length.amount:
        raise ValueError(length)


def _check_pattern(text: str) -> None:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(text) from error


Length = Annotated[Duration, Meta(description=_LENGTH)]
LengthAbove0 = Annotated[
    Duration, Meta(description=f"{_LENGTH} above 0", extra={"check": _check_above_0})
]
Pattern = Annotated[Text, Meta(description=_LAYERS, extra={"check": _check_pattern})]
Trainable = Annotated[
    Pattern, Meta(description=f"'temporal', 'spatial', 'all', 'lora' or {_LAYERS}")
]


class Run(Table, frozen=True):
    """Where everything goes, and which seed it begins from."""

    folder: Text
    seed: Natural = 0


class Model(Table, frozen=True):
    """What is trained."""

    preset: Text
    dtype: Literal["float32", "mixed_bfloat16"] = "float32"
    rematerialise: Annotated[
        bool | Literal["feed_forward"],
        Meta(description="true, false or 'feed_forward'"),
    ] = False
    image_model: bool = True


class Data(Table, frozen=True):
    """What it is trained on."""

    source: Text
    batch_size: Positive = 1
    frames: Positive = 24
    samples_per_epoch: Positive | None = None
    workers: Natural = 0
    prefetch: Natural = 2

    def problems(self) -> Iterator[tuple[str, str]]:
        samples = self.samples_per_epoch
        if samples is not None and self.batch_size > samples:
            told = f"must be at most samples_per_epoch, {samples}"
            yield "batch_size", f"{told}. Received: {self.batch_size}"


class Loss(Table, frozen=True):
    """How the samples become a loss."""

    given_frames: Shares | None = None
    caption_dropout: BelowOne = 0.0
    min_snr_gamma: Above0 | None = None
    full_mask_share: Share = 0.5
    kl_weight: NotNegative = 1e-4


class Optimizer(Table, frozen=True):
    """AdamW."""

    accumulate: Positive = 1
    clip_norm: Above0 = 1.0
    weight_decay: NotNegative = 0.02
    beta_1: BelowOne = 0.9
    beta_2: BelowOne = 0.999
    epsilon: Above0 = 1e-8
    ema: BelowOne = 0.0


class LearningRate(Table, frozen=True):
    """A linear warm-up to the peak, then constant or a cosine to `final`."""

    peak: Above0
    warmup: Length = Duration(0.0, "steps")
    decay: Literal["constant", "cosine"] = "constant"
    final: NotNegative = 0.0


class Lora(Table, frozen=True):
    """Low-rank adapters on dense and convolution layers; by default of attention."""

    rank: Positive = 8
    alpha: Above0 = 8.0
    layers: Pattern = "attn"


class Distillation(Table, frozen=True):
    """How a few-step model is made, see `ConsistencyDistillation`."""

    guidance: tuple[float, float] = (7.5, 7.5)
    grid: Annotated[int, Meta(ge=1, le=1000)] = 50
    ema: BelowOne = 0.95
    huber: Above0 = 1e-3

    def problems(self) -> Iterator[tuple[str, str]]:
        low, high = self.guidance
        if low > high:
            yield (
                "guidance",
                f"must have the lower number first. Received: {low}, {high}",
            )


class Stage(Table, frozen=True):
    """One training, with its own optimizer; stages follow one another.

    `data`, `loss` and `optimizer` are the recipe's but for keys that the stage sets.
    """

    name: Text
    length: LengthAbove0
    learning_rate: LearningRate
    data: Data
    loss: Loss
    optimizer: Optimizer
    objective: Literal["video", "distillation", "image", "autoencoder"] = "video"
    trainable: Trainable = "temporal"
    text_encoder: bool = False
    repeats: Positive = 1
    lora: Lora | None = None
    distillation: Distillation | None = None

    @property
    def trains_on_latents(self) -> bool:
        """Whether its data are latent videos, not pictures."""
        return self.objective in ("video", "distillation")

    def problems(self) -> Iterator[tuple[str, str]]:
        rate = self.learning_rate
        if rate.final > rate.peak:
            told = f"must be at most the peak, {rate.peak:g}. Received: {rate.final:g}"
            yield "learning_rate.final", told
        if rate.final and rate.decay != "cosine":
            told = f"must be 0 with decay = {rate.decay!r}. Received: {rate.final:g}"
            yield "learning_rate.final", told
        warmup, length = rate.warmup, self.length
        if warmup.unit == length.unit and warmup.amount > length.amount:
            told = f"must be at most the length, {length}. Received: {warmup}"
            yield "learning_rate.warmup", told
        if self.lora and self.trainable != "lora":
            yield "lora", f"goes with trainable = 'lora'. Received: {self.trainable!r}"
        yield from self._objective_problems()

    def _objective_problems(self) -> Iterator[tuple[str, str]]:
        if self.objective == "autoencoder" and self.trainable != "all":
            told = "must be 'all' with objective = 'autoencoder'"
            yield "trainable", f"{told}. Received: {self.trainable!r}"
        if self.objective == "image" and self.trainable in ("temporal", "lora", "all"):
            told = "must be 'spatial', or a pattern of spatial layers, with objective"
            yield "trainable", f"{told} = 'image'. Received: {self.trainable!r}"
        if self.text_encoder and self.objective != "image":
            told = f"goes with objective = 'image'. Received: {self.objective!r}"
            yield "text_encoder", told
        if self.distillation and self.objective != "distillation":
            told = f"goes with objective = 'distillation'. Received: {self.objective!r}"
            yield "distillation", told
        if self.objective == "distillation" and self.loss.min_snr_gamma is not None:
            told = "goes with objective = 'video'. Received: 'distillation'"
            yield "loss.min_snr_gamma", told
        drawn = not self.trains_on_latents and self.data.source == DRAWN_PICTURES
        if drawn and self.data.samples_per_epoch is None:
            told = f"of {self.objective!r} needs data.samples_per_epoch, for drawn "
            yield "objective", f"{told}pictures have no end. Received: none"


class Guard(Table, frozen=True):
    """What happens when a loss or gradient is NaN or infinite.

    All of it may change when a run is continued.
    """

    patience: Positive = 10
    lr_factor: Annotated[float, Meta(gt=0, le=1)] = 0.5
    max_rollbacks: Natural = 5


class Checkpoints(Table, frozen=True):
    """What a run can be continued from.

    `every` may not change when it is, for roll-backs go to checkpoints.
    """

    every: LengthAbove0 = Duration(1.0, "epochs")
    keep: Positive = 3


class Logs(Table, frozen=True):
    """What is logged while it trains, besides `metrics.jsonl`."""

    every: Positive = 10
    tensorboard: bool = True


class Samples(Table, frozen=True):
    """Videos that are generated while it trains."""

    prompts: Texts
    every: LengthAbove0 = Duration(1.0, "epochs")
    hints: Texts = ()
    frames: Positive | None = None
    steps: Positive = 20
    guidance: float | None = None
    fps: Above0 | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.prompts:
            yield "prompts", "must have at least one prompt. Received: none"
        if self.hints and len(self.hints) != len(self.prompts):
            told = f"must be one for each of the {len(self.prompts)} prompts"
            yield "hints", f"{told}. Received: {len(self.hints)}"


class Distribution(Table, frozen=True):
    """The devices that train together, of one host or of several; under JAX alone.

    So many as `fsdp`, or all, hold one copy of parameters, optimizer state and averages
    together.
    """

    fsdp: Positive = 1


class Recipe(Table, frozen=True):
    """A whole training; without a `distribution` one device trains.

    Each stage holds its own `data`, `loss` and `optimizer`, complete.
    """

    run: Run
    model: Model
    data: Data
    stage: Annotated[
        tuple[Stage, ...], Meta(min_length=1, description="a list of tables, [[stage]]")
    ]
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    guard: Guard = Guard()
    checkpoints: Checkpoints = Checkpoints()
    logs: Logs = Logs()
    samples: Samples | None = None
    distribution: Distribution | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        names = [stage.name for stage in self.stage]
        for name in sorted({name for name in names if names.count(name) > 1}):
            told = f"Received: a name of {names.count(name)}"
            yield f"stage.{name}", f"must be the name of one stage. {told}"
