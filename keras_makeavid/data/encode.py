"""A folder of captioned clips to a latent dataset in the published layout."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from keras_makeavid.compilation import compile_inference
from keras_makeavid.data.layout import PublishedLayout, write_json
from keras_makeavid.files import written_aside
from keras_makeavid.video import read_video
from keras_makeavid.video.reader import check_window
from keras_makeavid.video.resize import check_size


@dataclass
class EncodeReport:
    """What became of each clip.

    Args:
        encoded: ids of clips encoded now.
        skipped: ids of clips found finished.
        failed: id of each broken clip, and why.
    """

    encoded: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def encode_clips(
    captions: Mapping[Path, str],
    out: str | os.PathLike,
    vae: keras.Model,
    text_encoder: keras.Model,
    preprocessor: Callable[[str], np.ndarray],
    height: int = 512,
    width: int = 512,
    fps: float | None = None,
    num_frames: int | None = None,
    start: float = 0.0,
    on_clip: Callable[[str], None] = lambda clip_id: None,
) -> EncodeReport:
    """Encode clips and captions as latents and text states.

    A clip that is finished is skipped, so that a run that was stopped goes on where
    it was; a broken one is reported, left out, and tried again by the next run.

    Args:
        captions: caption of each clip, as from `read_captions`.
        out: dataset folder, made if missing; spec section 7 shows what it will hold.
        vae: an `AutoencoderKL`; latents are its posterior means, not scaled.
        text_encoder: takes `{"token_ids"}`, returns text states `(1, L, D)`.
        preprocessor: turns a caption into token ids `(1, L)`.
        height: height of the frames in pixels; clips are scaled to cover and cropped.
        width: width of the frames in pixels.
        fps: frames a second to resample to; `None` keeps the clip's own.
        num_frames: frames to take of each clip; `None` takes all.
        start: where to begin in each clip, in seconds.
        on_clip: called with each clip's id when it is done, skipped or failed.

    Returns:
        An `EncodeReport`.

    Raises:
        ValueError: if an argument makes no sense, the size does not fit the VAE, or
            two clips would have one id.

    Example:
        ```python
        task = keras_makeavid.TextToVideo.from_preset("preset")
        report = encode_clips(
            read_captions("clips"), "dataset",
            task.vae, task.text_encoder, task.preprocessor, fps=8,
        )
        ```
    """
    check_window(start, num_frames, fps)
    _check_size(vae, height, width)
    ids = _clip_ids(captions)
    layout = PublishedLayout(out)
    for folder in ("videos", "prompts", "metadata"):
        (layout.data / folder).mkdir(parents=True, exist_ok=True)
    encode_text = compile_inference(
        lambda token_ids: text_encoder({"token_ids": token_ids}), [text_encoder]
    )

    report = EncodeReport()
    for clip, clip_id in ids.items():
        settings = {
            "caption": captions[clip],
            "source": clip.name,
            "height": height,
            "width": width,
            "fps": fps,
            "num_frames": num_frames,
            "start": start,
        }
        if _is_finished(layout, clip_id, settings):
            report.skipped.append(clip_id)
        else:
            try:
                frames = read_video(
                    clip,
                    start=start,
                    num_frames=num_frames,
                    fps=fps,
                    height=height,
                    width=width,
                )
            except (ValueError, OSError) as error:
                report.failed[clip_id] = str(error)
            else:
                latents = vae.encode_video(frames[None])[0] / vae.scaling_factor
                states = encode_text(preprocessor(captions[clip]))
                _write_clip(layout, clip_id, latents, states, settings)
                report.encoded.append(clip_id)
        on_clip(clip_id)
    write_json(layout.id_list, list(ids.values()))
    write_json(layout.failed_id_list, list(report.failed))
    return report


def _check_size(vae, height, width):
    check_size(height, width)
    factor = vae.downsampling_factor
    if height % factor or width % factor:
        raise ValueError(
            f"height and width must be multiples of {factor} for this VAE. "
            f"Received: height={height}, width={width}"
        )


def _clip_ids(captions: Mapping[Path, str]) -> dict[Path, str]:
    """An id of each clip: its file name without suffix, made fit for a file name."""
    ids = {
        clip: re.sub(r"\W+", "_", clip.stem, flags=re.ASCII).strip("_")
        for clip in captions
    }
    first = {}
    for clip, clip_id in ids.items():
        if not clip_id:
            raise ValueError(f"The name of {clip} has no ASCII letter or digit")
        other = first.setdefault(clip_id.lower(), clip)
        if other != clip:
            raise ValueError(
                f"{other} and {clip} would have one id, {clip_id!r}: rename one"
            )
    return ids


def _is_finished(layout, clip_id, settings) -> bool:
    of_clip = (layout.video, layout.prompt, layout.metadata)
    if not all(path(clip_id).is_file() for path in of_clip):
        return False
    try:
        metadata = json.loads(layout.metadata(clip_id).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(metadata, dict) and settings.items() <= metadata.items()


def _write_clip(layout, clip_id, latents, states, settings):
    # The metadata comes last: a clip that has it has everything.
    layout.metadata(clip_id).unlink(missing_ok=True)
    latents = np.ascontiguousarray(np.moveaxis(latents, -1, 1), "float32")
    _save(layout.video(clip_id), latents)
    states = keras.ops.convert_to_numpy(keras.ops.cast(states, "float32"))
    _save(layout.prompt(clip_id), states)
    write_json(layout.metadata(clip_id), {**settings, "frames": len(latents)})


def _save(path: Path, array: np.ndarray) -> None:
    with written_aside(path) as aside, aside.open("wb") as file:
        np.save(file, array)
