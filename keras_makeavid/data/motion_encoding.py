"""Moving shapes to a latent dataset."""

from __future__ import annotations

import os
from collections.abc import Callable

import keras
import numpy as np

from keras_makeavid.data.clip_encoder import ClipEncoder
from keras_makeavid.data.motions import MotionClips
from keras_makeavid.data.parallel import map_in_order
from keras_makeavid.data.writer import open_writer

_FPS = 8.0


def encode_motions(
    clips: MotionClips,
    count: int,
    out: str | os.PathLike,
    vae: keras.Model,
    text_encoder: keras.Model,
    preprocessor: Callable[[str], np.ndarray],
    layout: str = "sharded",
    half: bool = False,
    num_workers: int = 0,
    on_clip: Callable[[str], None] = lambda clip_id: None,
) -> int:
    """Encode drawn clips and their captions as latents and text states.

    The counterpart of `encode_clips` for clips that are no files. A run that was
    stopped goes on where it was; a dataset that has more clips keeps them.

    Args:
        clips: to draw from.
        count: clips to encode: those of the first numbers.
        out: dataset folder, made or continued.
        vae: an `AutoencoderKL`; latents are its posterior means, not scaled.
        text_encoder: takes `{"token_ids"}`, returns text states `(1, L, D)`.
        preprocessor: turns a caption into token ids `(1, L)`.
        layout: `"sharded"`, or `"published"` for that of spec section 7.
        half: store float16 instead of float32; of the sharded layout only.
        num_workers: processes that draw clips, while this one encodes them; 0 draws
            here. A script that uses them needs the `if __name__ == "__main__"` of
            `multiprocessing`.
        on_clip: called with each clip's id when it is done or was found finished.

    Returns:
        The number of clips that were encoded now.

    Raises:
        ValueError: if an argument makes no sense.

    Example:
        ```python
        task = keras_makeavid.TextToVideo.from_preset("preset")
        encode_motions(
            MotionClips(seed=1), 1000, "dataset",
            task.vae, task.text_encoder, task.preprocessor.tokenize,
        )
        ```
    """
    if count < 1 or num_workers < 0:
        raise ValueError(
            "count must be at least 1, and num_workers 0 or more. Received: "
            f"count={count}, num_workers={num_workers}"
        )
    writer = open_writer(out, layout, half)
    encoder = ClipEncoder(vae, text_encoder, preprocessor, chunk_size=clips.num_frames)
    facts = {
        "source": f"motions of seed {clips.seed}, {clips.split}, {clips.size} pixels",
        "encoder": encoder.fingerprint,
        "frames": clips.num_frames,
        "fps": _FPS,
        "duration": clips.num_frames / _FPS,
    }
    ids = {index: f"motions-{index:08}" for index in range(count)}
    missing = {
        index: clip_id
        for index, clip_id in ids.items()
        if not facts.items() <= writer.stored.get(clip_id, {}).items()
    }
    drawn = map_in_order(clips.clip, ((index,) for index in missing), num_workers)
    for index, clip_id in ids.items():
        if index in missing:
            frames, caption = next(drawn)
            writer.add(encoder.encode(clip_id, frames, {"caption": caption, **facts}))
        else:
            writer.keep(clip_id)
        on_clip(clip_id)
    writer.finish()
    return len(missing)
