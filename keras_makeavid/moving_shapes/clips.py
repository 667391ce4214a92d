"""Clips by number, without end and without files, and a model's VAE on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_makeavid.moving_shapes.captions import caption
from keras_makeavid.moving_shapes.measure import psnr
from keras_makeavid.moving_shapes.rendering import render, render_at
from keras_makeavid.moving_shapes.world import MOTIONS, SPLITS, Scene, draw_scene
from keras_makeavid.validation import check_choice, check_least, refusal

if TYPE_CHECKING:
    import keras

    from keras_makeavid.tasks import TextToVideo

_FPS = 8.0
# The VAE codes 16 frames of the small model at once, and one of 256 pixels a side.
_PIXELS_AT_ONCE = 2**16


class MotionClips:
    """Captioned clips of moving shapes, made when they are asked for, without end.

    Clip `i` is a function of the seed and `i` only. Other arguments are a `ValueError`.

    Args:
        seed: Seed of everything.
        split: `"train"`, or `"held_out"` for the triples that training never shows.
        num_frames: Frames F of a clip.
        size: Height and width in pixels.
        often: A motion, and the share of clips that are sure to show it.

    Example:
        ```python
        frames, text = MotionClips(seed=1).clip(7)
        frames.shape  # (16, 64, 64, 3)
        ```
    """

    def __init__(
        self,
        seed: int = 0,
        split: str = "train",
        num_frames: int = 16,
        size: int = 64,
        often: tuple[str, float] | None = None,
    ):
        check_choice("split", split, SPLITS)
        if often is not None:
            check_choice("motion", often[0], MOTIONS)
            if not 0 < often[1] <= 1:
                raise refusal("A share of clips must be over 0 and at most 1", often[1])
        self.seed = seed
        self.split = split
        self.num_frames = num_frames
        self.size = size
        self.often = often

    def scene(self, index: int) -> Scene:
        """What clip `index` shows."""
        return draw_scene(self._generator(index), self.split, self.often)

    def caption(self, index: int) -> str:
        """What is said of clip `index`, in one of many wordings."""
        return self._drawn(index)[1]

    def clip(self, index: int) -> tuple[np.ndarray, str]:
        """Make clip `index`: uint8 `(F, H, W, 3)`, and its caption."""
        scene, text, _ = self._drawn(index)
        return render(scene, self.num_frames, self.size), text

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, list[str]]:
        """Make several clips: uint8 `(B, F, H, W, 3)`, and B captions."""
        shape = len(indices), self.num_frames, self.size, self.size, 3
        frames, texts = np.empty(shape, "uint8"), []
        for row, index in enumerate(indices):
            frames[row], text = self.clip(index)
            texts.append(text)
        return frames, texts

    def images(
        self, indices: Sequence[int], moment: float | None = None
    ) -> tuple[np.ndarray, list[str]]:
        """Make a frame uint8 `(B, H, W, 3)` of each of several clips, and B captions.

        It costs a fraction of the clips. The `moment` is from 0, the first frame, to 1,
        the last; `None` draws one for each.

        Example:
            ```python
            images, captions = MotionClips().images(range(32))
            images.shape  # (32, 64, 64, 3)
            ```
        """
        images = np.empty((len(indices), self.size, self.size, 3), "uint8")
        texts = []
        for row, index in enumerate(indices):
            scene, text, drawn = self._drawn(index)
            time = drawn if moment is None else moment
            (images[row],) = render_at(scene, np.array([time]), self.size)
            texts.append(text)
        return images, texts

    def _drawn(self, index):
        """A clip's scene and caption, and a moment of it."""
        rng = self._generator(index)
        scene = draw_scene(rng, self.split, self.often)
        return scene, caption(scene, rng), rng.random()

    def _generator(self, index):
        # Splits differ in triples; drawn from the same numbers they would be alike.
        return np.random.default_rng([self.seed, SPLITS.index(self.split), index])


def encode_motions(
    clips: MotionClips,
    count: int,
    out: str | os.PathLike,
    vae: keras.Model,
    text_encoder: keras.Model,
    tokenize: Callable[[str], np.ndarray],
    half: bool = False,
    on_clip: Callable[[str], None] = lambda clip_id: None,
) -> int:
    """Encode the first `count` clips and captions; return how many were encoded now.

    The counterpart of `encode_clips` for clips that are no files, whose arguments it
    takes. A stopped run goes on where it was; a dataset that has more clips keeps them.
    """
    # Who only draws clips needs no Keras.
    from keras_makeavid.data.clip_encoder import ClipEncoder
    from keras_makeavid.data.reader import LatentClip
    from keras_makeavid.data.sharded import ShardedWriter

    check_least(1, count=count)
    writer = ShardedWriter(out, half)
    at_once = _frames_at_once(clips.size)
    encoder = ClipEncoder(vae, text_encoder, tokenize, at_once)
    source = f"motions of seed {clips.seed}, {clips.split}, {clips.size} pixels"
    if clips.often is not None:
        source += ", {} in {} of them".format(*clips.often)
    facts = {
        "source": source,
        "encoder": encoder.fingerprint,
        "frames": clips.num_frames,
        "fps": _FPS,
        "duration": clips.num_frames / _FPS,
        "text_length": int(np.shape(tokenize(""))[-1]),
    }
    made = 0
    for index in range(count):
        clip_id = f"motions-{index:08}"
        told = {"caption": clips.caption(index), **facts}
        if writer.stored.get(clip_id) == told:
            writer.keep(clip_id)
        else:
            encoded = encoder.encode(*clips.clip(index))
            writer.add(LatentClip(clip_id, *encoded, told))
            made += 1
        on_clip(clip_id)
    writer.finish()
    return made


def square_size(task: TextToVideo) -> int:
    """Return the side in pixels of the clips that are drawn for a task."""
    if task.height != task.width:
        size = f"{task.height} x {task.width} pixels"
        raise ValueError(f"Drawn clips are square. Received: a preset of {size}")
    return task.height


def vae_psnr(task: TextToVideo, count: int = 128) -> float:
    """Measure the mean PSNR, in dB, of a task's VAE on pictures not of training."""
    size = min(task.height, task.width)
    images, _ = MotionClips(split="held_out", size=size).images(range(count))
    latents = task.vae.encode_video(images, chunk_size=_frames_at_once(size))
    shown = task.vae.decode_video(latents, chunk_size=_frames_at_once(size))
    return float(np.mean([psnr(*pair) for pair in zip(images, shown, strict=True)]))


def _frames_at_once(size):
    return max(1, _PIXELS_AT_ONCE // size**2)
