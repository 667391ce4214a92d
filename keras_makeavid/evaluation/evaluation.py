"""How often videos show what their captions say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from keras_makeavid.data.motions import Description, held_out, parse_caption
from keras_makeavid.evaluation.measure import Measured, measure_video, psnr
from keras_makeavid.video import cover_crop

ATTRIBUTES = ("colour", "shape", "motion", "background")


class GeneratedVideo(NamedTuple):
    """A video and what it should show.

    Attributes:
        frames: uint8 `(F, H, W, 3)`.
        caption: such as `keras_makeavid.data.motions` writes.
        seed: that it was generated from, if any.
        hint: the picture that it was to set in motion, uint8 of any size, if any.
    """

    frames: np.ndarray
    caption: str
    seed: int | None = None
    hint: np.ndarray | None = None


@dataclass(frozen=True)
class Result:
    """One video's measurement beside what was asked for.

    Attributes:
        description: what the caption says.
        measured: what the video shows.
        caption: the text.
        seed: of the video, if it is known.
        hint_psnr: of the first frame against the hint, in dB, if there was one.
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
        return [
            name
            for name in ATTRIBUTES
            if getattr(self.measured, name) != getattr(self.description, name)
        ]


@dataclass(frozen=True)
class Evaluation:
    """The results of many videos.

    Attributes:
        results: one for each.

    Example:
    ```python
    clips = MotionClips(seed=1)
    evaluation = evaluate(clips.clip(index) for index in range(8))
    evaluation.rate("motion")  # 1.0
    ```
    """

    results: tuple[Result, ...]

    def of_split(self, split: str) -> Evaluation:
        """The results of `"seen"` or of `"held_out"` triples only."""
        return Evaluation(tuple(r for r in self.results if r.split == split))

    def shuffled(self) -> Evaluation:
        """The control: each video against the caption of another, drawn once for all.

        What is right here is right by chance.
        """
        order = np.random.default_rng(0).permutation(len(self.results))
        return Evaluation(
            tuple(
                replace(result, description=self.results[other].description)
                for result, other in zip(self.results, order, strict=True)
            )
        )

    def count(self, attribute: str) -> int:
        """How many videos show an attribute rightly, or all of them (`"all"`)."""
        names = ATTRIBUTES if attribute == "all" else (attribute,)
        return sum(not set(names) & set(result.wrong) for result in self.results)

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
    def hint_psnr(self) -> float:
        """Mean agreement with the hints in dB; NaN if there were none."""
        found = [result.hint_psnr for result in self.results]
        return _mean([decibels for decibels in found if decibels is not None])


def evaluate(
    videos: Iterable[tuple[np.ndarray, str] | GeneratedVideo],
    on_result: Callable[[Result, np.ndarray], None] = lambda result, frames: None,
) -> Evaluation:
    """Measure videos against their captions.

    Args:
        videos: pairs of frames and caption, or `GeneratedVideo`s; taken one by one.
        on_result: called with each video's result and frames, such as a `Gallery`.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: if a caption says nothing that can be measured.

    Example:
    ```python
    clips = MotionClips(seed=1)
    evaluate([clips.clip(3), clips.clip(4)]).rate("colour")  # 1.0
    ```
    """
    results = []
    for frames, caption, seed, hint in (GeneratedVideo(*video) for video in videos):
        description = parse_caption(caption)
        if description is None:
            raise ValueError(
                "A caption must be one of keras_makeavid.data.motions. "
                f"Received: {caption!r}"
            )
        agreement = None
        if hint is not None:
            agreement = psnr(frames[0], cover_crop(hint, *frames.shape[1:3]))
        measured = measure_video(frames)
        results.append(Result(description, measured, caption, seed, agreement))
        on_result(results[-1], frames)
    return Evaluation(tuple(results))


def _mean(values):
    return float(np.mean(values)) if values else float("nan")
