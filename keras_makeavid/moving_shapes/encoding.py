"""Drawn clips through a model's VAE: to a latent dataset, and back to pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from keras_makeavid.moving_shapes.clips import MotionClips
from keras_makeavid.moving_shapes.measure import psnr

if TYPE_CHECKING:
    import keras

    from keras_makeavid.tasks import TextToVideo

_FPS = 8.0
# The VAE codes 16 frames of the small model at once, and one of 256 pixels a side.
_PIXELS_AT_ONCE = 2**16


def encode_motions(
    clips: MotionClips,
    count: int,
    out: str | os.PathLike,
    vae: keras.Model,
    text_encoder: keras.Model,
    tokenize: Callable[[str], np.ndarray],
    layout: str = "sharded",
    half: bool = False,
    num_workers: int = 0,
    on_clip: Callable[[str], None] = lambda clip_id: None,
) -> int:
    """Encode the first `count` clips and their captions as latents and text states.

    The counterpart of `encode_clips` for clips that are no files, whose arguments it
    takes; but `num_workers` processes draw clips while this one encodes them. A script
    that uses them needs the `if __name__ == "__main__"` of `multiprocessing`. A stopped
    run goes on where it was; a dataset that has more clips keeps them.

    Returns:
        The number of clips that were encoded now.
    """
    # Here, as processes that only draw clips need no Keras.
    from keras_makeavid.data.clip_encoder import ClipEncoder
    from keras_makeavid.data.datasets import open_writer
    from keras_makeavid.data.reader import LatentClip
    from keras_makeavid.parallel import map_in_order

    if count < 1 or num_workers < 0:
        raise ValueError(
            "count must be at least 1, and num_workers 0 or more. Received: "
            f"count={count}, num_workers={num_workers}"
        )
    writer = open_writer(out, layout, half)
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
    ids = {index: f"motions-{index:08}" for index in range(count)}
    missing = {
        index: clip_id
        for index, clip_id in ids.items()
        if writer.stored.get(clip_id) != {"caption": clips.caption(index), **facts}
    }
    drawn = map_in_order(clips.clip, ((index,) for index in missing), num_workers)
    for index, clip_id in ids.items():
        if index in missing:
            frames, caption = next(drawn)
            encoded = encoder.encode(frames, caption)
            writer.add(LatentClip(clip_id, *encoded, {"caption": caption, **facts}))
        else:
            writer.keep(clip_id)
        on_clip(clip_id)
    writer.finish()
    return len(missing)


def square_size(task: TextToVideo) -> int:
    """Return the side in pixels of the clips that are drawn for a task."""
    if task.height != task.width:
        raise ValueError(
            "Drawn clips are square. Received: a preset of "
            f"{task.height} x {task.width} pixels"
        )
    return task.height


def vae_psnr(task: TextToVideo, count: int = 128) -> float:
    """Measure how well a task's VAE reconstructs pictures that training does not show.

    The mean PSNR of `count` pictures in dB: it bounds how true to detail videos can be.
    """
    size = min(task.height, task.width)
    images, _ = MotionClips(split="held_out", size=size).images(range(count))
    latents = task.vae.encode_video(images, chunk_size=_frames_at_once(size))
    shown = task.vae.decode_video(latents, chunk_size=_frames_at_once(size))
    return float(np.mean([psnr(*pair) for pair in zip(images, shown, strict=True)]))


def _frames_at_once(size):
    return max(1, _PIXELS_AT_ONCE // size**2)
