"""How often videos show what their captions say, and what is good enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from keras_makeavid.moving_shapes.captions import parse_caption
from keras_makeavid.moving_shapes.measure import Measured, measure_video, psnr
from keras_makeavid.moving_shapes.world import Description, held_out
from keras_makeavid.video import cover_crop

ATTRIBUTES = ("colour", "shape", "motion", "background")
SPLITS = ("seen", "held_out")


class GeneratedVideo(NamedTuple):
    """A video uint8 `(F, H, W, 3)`, the caption of what it should show, and its seed.

    `hint` is the picture of any size that it was to set in motion, if there was one.
    """

    frames: np.ndarray
    caption: str
    seed: int | None = None
    hint: np.ndarray | None = None


@dataclass(frozen=True)
class Result:
    """What one video shows (`measured`) beside what its caption says (`description`).

    `hint_psnr` is that of the first frame against the hint in dB, if there was one.
    """

    description: Description
    measured: Measured
    caption: str
    seed: int | None = None
    hint_psnr: float | None = None

    @property
    def split(self) -> str:
        """`"seen"` or `"held_out"`: whether training shows such clips."""
        return "held_out" if held_out(self.description.triple) else "seen"

    @property
    def wrong(self) -> list[str]:
        """The attributes that are not as described."""
        seen, said = self.measured, self.description
        return [n for n in ATTRIBUTES if getattr(seen, n) != getattr(said, n)]


@dataclass(frozen=True)
class Evaluation:
    """The results of many videos, one for each."""

    results: tuple[Result, ...]

    def of_split(self, split: str) -> Evaluation:
        """The results of `"seen"` or of `"held_out"` triples only."""
        return Evaluation(tuple(r for r in self.results if r.split == split))

    def shuffled(self) -> Evaluation:
        """The control: each video against the caption of another, drawn once for all.

        What is right here is right by chance.
        """
        order = np.random.default_rng(0).permutation(len(self.results))
        others = [self.results[other].description for other in order]
        pairs = zip(self.results, others, strict=True)
        return Evaluation(tuple(replace(r, description=other) for r, other in pairs))

    def count(self, attribute: str) -> int:
        """How many videos show an attribute rightly, or all of them (`"all"`)."""
        names = set(ATTRIBUTES if attribute == "all" else (attribute,))
        return sum(not names & set(result.wrong) for result in self.results)

    def rate(self, attribute: str) -> float:
        """The share of videos that show an attribute rightly; NaN of none."""
        if not self.results:
            return float("nan")
        return self.count(attribute) / len(self.results)

    @property
    def flicker(self) -> float:
        """Mean flicker in levels of 255; NaN of no videos."""
        return _mean([result.measured.flicker for result in self.results])

    @property
    def last_shape(self) -> float:
        """Percent of videos that show the shape in their last quarter; NaN of none."""
        kept = [r.measured.last_shape == r.description.shape for r in self.results]
        return 100 * _mean(kept)

    @property
    def hint_psnr(self) -> float:
        """Mean agreement with the hints in dB; NaN if there were none."""
        found = [result.hint_psnr for result in self.results]
        return _mean([decibels for decibels in found if decibels is not None])


# What the small model reaches: the least rates of triples that training shows, and of
# those held out of it; the least mean agreement with hints, in dB.
BAR = {"colour": (0.98, 0.95), "shape": (0.90, 0.80), "motion": (0.95, 0.88)}
HINT_BAR = 20.0


def failures(evaluation: Evaluation) -> list[str]:
    """Say what is below the small model's bar, a sentence each.

    What has no videos is no failure.
    """
    parts = {split: evaluation.of_split(split) for split in SPLITS}
    found = [
        f"{name} of {split.replace('_', '-')} triples: "
        f"{parts[split].rate(name):.1%}, below {least:.0%}"
        for number, split in enumerate(SPLITS)
        for name, bar in BAR.items()
        if parts[split].rate(name) < (least := bar[number])
    ]
    agreement = evaluation.hint_psnr
    if agreement < HINT_BAR:
        problem = f"agreement with the hint: {agreement:.1f} dB"
        found.append(f"{problem}, below {HINT_BAR:g}")
    return found


def evaluate(
    videos: Iterable[tuple[np.ndarray, str] | GeneratedVideo],
    on_result: Callable[[Result, np.ndarray], None] = lambda result, frames: None,
) -> Evaluation:
    """Measure videos against their captions; others are a `ValueError`.

    Args:
        videos: Pairs of frames and caption, or `GeneratedVideo`s; taken one by one.
        on_result: Called with each video's result and frames, such as a `Gallery`.

    Example:
        ```python
        clips = MotionClips(seed=1)
        evaluation = evaluate(clips.clip(index) for index in range(8))
        evaluation.rate("colour"), failures(evaluation)  # 1.0, []
        ```
    """
    results = []
    for frames, caption, seed, hint in (GeneratedVideo(*video) for video in videos):
        description = parse_caption(caption)
        if description is None:
            expected = "A caption must be one of keras_makeavid.moving_shapes"
            raise ValueError(f"{expected}. Received: {caption!r}")
        agreement = None
        if hint is not None:
            agreement = psnr(frames[0], cover_crop(hint, *frames.shape[1:3]))
        measured = measure_video(frames)
        results.append(Result(description, measured, caption, seed, agreement))
        on_result(results[-1], frames)
    return Evaluation(tuple(results))


def _mean(values):
    return float(np.mean(values)) if values else float("nan")
