"""How well a model fills in, continues and changes videos of moving shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_makeavid.moving_shapes.captions import caption, parse_caption
from keras_makeavid.moving_shapes.clips import MotionClips
from keras_makeavid.moving_shapes.measure import measure_video, psnr
from keras_makeavid.moving_shapes.world import Description, motions_of

if TYPE_CHECKING:
    from keras_makeavid.tasks import TextToVideo

_SPACING = 4
_LONG = 64
_TRAVEL = 32
_BATCH = 4
# What is missing between given frames has nearly one answer, which is their mean: two
# steps are nearest to it. Guidance moves colours away from those of the given frames.
_BETWEEN = {"num_steps": 2, "guidance_scale": 1.0}
_CONTINUED = {"guidance_scale": 1.0}
_SEEN_SEED = 2**20  # Of clips that no training draws.


class Row(NamedTuple):
    """A number that was measured, and the least, or the `most`, that it may be."""

    name: str
    value: float
    bar: float
    most: bool = False

    @property
    def holds(self) -> bool:
        """Whether the value reaches the bar."""
        return self.value <= self.bar if self.most else self.value >= self.bar


def evaluate_control(
    task: TextToVideo,
    count: int = 48,
    on_video: Callable[[str, np.ndarray], None] = lambda name, frames: None,
    **arguments: Any,
) -> list[Row]:
    """Measure in-betweens, continuation, long videos and prompts that change.

    Half of the clips are of triples that training shows, half of those held out of it;
    training has seen none of them.

    Args:
        task: A model of moving shapes.
        count: Videos of each kind, an even number.
        on_video: Called with the kind and the frames `(F, H, W, 3)` of each video.
        **arguments: As for `TextToVideo.generate`, such as `num_steps`; in-betweens are
            made in two steps, and they and continuations without guidance.

    Example:
        ```python
        task = TextToVideo.from_preset("makeavid_motions_small")
        for row in evaluate_control(task, count=2, num_steps=2):
            print(f"{row.name}: {row.value:.2f}")
        ```
    """
    kinds = (_in_betweens, _continuation, _long_videos, _windows, _travel)
    return [row for kind in kinds for row in kind(task, count, on_video, arguments)]


def _clips(
    task, count, num_frames
) -> Iterator[tuple[np.ndarray, list[str], list[int]]]:
    """Clips `(B, F, H, W, 3)` with captions, and a seed for each, by batches."""
    for offset, split in enumerate(("train", "held_out")):
        clips = MotionClips(_SEEN_SEED, split, num_frames, min(task.height, task.width))
        for start in range(0, count // 2, _BATCH):
            numbers = range(start, min(start + _BATCH, count // 2))
            frames, captions = clips.batch(numbers)
            yield frames, captions, [2 * number + offset for number in numbers]


def _in_betweens(task, count, on_video, arguments):
    length = task.num_frames
    for name, given in (
        ("first and last given", [0, length - 1]),
        (f"every {_SPACING}th given", list(range(0, length, _SPACING))),
    ):
        missing = [f for f in range(length) if f not in given]
        over_blend, over_hold, loss = [], [], []
        for frames, captions, seeds in _clips(task, count, length):
            made = task.generate(
                captions,
                keyframes={f: frames[:, f] for f in given},
                num_frames=length,
                seed=seeds,
                **{**arguments, **_BETWEEN},
            )
            latents = task.vae.encode_video(frames[:, given])
            known = task.vae.decode_video(latents)
            for true, ours, vae in zip(frames, made, known, strict=True):
                on_video(name, ours)
                quality = psnr(ours[missing], true[missing])
                nearest = [min(given, key=lambda g: abs(g - f)) for f in missing]
                over_hold.append(quality - psnr(true[nearest], true[missing]))
                blended = _blended(true, given)[missing]
                over_blend.append(quality - psnr(blended, true[missing]))
                loss.append(psnr(vae, true[given]) - psnr(ours[given], true[given]))
        yield Row(f"{name}: over linear blending, dB", _mean(over_blend), 3.0)
        yield Row(f"{name}: over holding the nearest, dB", _mean(over_hold), 3.0)
        yield Row(f"{name}: given frames below the VAE, dB", _mean(loss), 0.5, True)


def _blended(frames, given):
    """The frames between given ones as mixtures of both; the last one is held."""
    places = np.arange(len(frames))
    shares = [np.interp(places, given, corner) for corner in np.eye(len(given))]
    mixed = np.einsum("gf,ghwc->fhwc", shares, frames[given].astype("float64"))
    return np.rint(mixed).astype("uint8")


def _continuation(task, count, on_video, arguments):
    right = []
    for frames, captions, seeds in _clips(task, count, task.num_frames):
        start = frames[:, :_SPACING]
        how = {**arguments, **_CONTINUED}
        made = task.extend(start, task.num_frames, captions, seed=seeds, **how)
        for ours, text in zip(made, captions, strict=True):
            on_video("continued", ours)
            motion = measure_video(ours[_SPACING - 1 :]).motion
            right.append(motion == parse_caption(text).motion)
    yield Row("continued from 4 frames: motion", _mean(right), 0.9)


def _long_videos(task, count, on_video, arguments):
    """Clips four times as slow, of which a fourth is given."""
    name, how = f"{_LONG} frames by continuation", {**arguments, **_CONTINUED}
    made = (
        (
            task.extend(frames[:, :length], _LONG, captions, seed=seeds, **how),
            captions,
        )
        for length in (task.num_frames,)
        for frames, captions, seeds in _clips(task, count, _LONG)
    )
    step = task.num_frames - _SPACING
    seams = range(task.num_frames, _LONG, step)
    return _attributes(name, made, seams, on_video)


def _windows(task, count, on_video, arguments):
    """Videos of the trained length, slowed down by frames between theirs."""

    def slow(captions, seeds):
        fast = task.generate(captions, seed=seeds, output="latents", **arguments)
        spacing = _LONG // fast.shape[1]
        return task.generate(
            captions,
            keyframes={spacing * f: fast[:, f] for f in range(fast.shape[1])},
            num_frames=_LONG,
            window=task.num_frames,
            seed=seeds,
            **{**arguments, **_BETWEEN},
        )

    clips = _clips(task, count, task.num_frames)
    made = ((slow(captions, seeds), captions) for _, captions, seeds in clips)
    stride = task.num_frames - task.num_frames // 4
    seams = range(stride, _LONG - 1, stride)
    return _attributes(f"{_LONG} frames by windows", made, seams, on_video)


def _attributes(name, made, seams, on_video):
    names = ("colour", "shape", "motion")
    right, ratios = {attribute: [] for attribute in names}, []
    for videos, captions in made:
        for frames, text in zip(videos, captions, strict=True):
            on_video(name, frames)
            measured, said = measure_video(frames), parse_caption(text)
            for attribute in names:
                same = getattr(measured, attribute) == getattr(said, attribute)
                right[attribute].append(same)
            changes = np.abs(np.diff(frames.astype("float64"), axis=0)).mean((1, 2, 3))
            at_seams = [changes[seam - 1] for seam in seams]
            ratios.append(np.mean(at_seams) / max(np.median(changes), 1e-6))
    for attribute in names:
        yield Row(f"{name}: {attribute}", _mean(right[attribute]), 0.9)
    yield Row(f"{name}: change at seams, of the median", _mean(ratios), 1.5, True)


def _travel(task, count, on_video, arguments):
    """Prompts that turn into another motion in the middle of a video."""
    half, right = _TRAVEL // 2, []
    for _, captions, seeds in _clips(task, count, 1):
        prompts, pairs = [], []
        for text, seed in zip(captions, seeds, strict=True):
            first = parse_caption(text)
            others = [m for m in motions_of(first.shape) if m != first.motion]
            second = others[seed % len(others)]
            after = Description(first.colour, first.shape, second, first.background)
            pairs.append((first.motion, second))
            texts = (caption(first), caption(after))
            places = (0, half - 1, half, _TRAVEL - 1)
            prompts.append({f: texts[f >= half] for f in places})
        made = task.generate(
            prompts,
            num_frames=_TRAVEL,
            window=task.num_frames,
            overlap=task.num_frames // 2,
            seed=seeds,
            **arguments,
        )
        for frames, (before, after) in zip(made, pairs, strict=True):
            on_video("a prompt that changes", frames)
            right.append(measure_video(frames[:half]).motion == before)
            right.append(measure_video(frames[half:]).motion == after)
    yield Row("a prompt that changes: motions", _mean(right), 0.8)


def _mean(values):
    return float(np.mean(values)) if len(values) else float("nan")
