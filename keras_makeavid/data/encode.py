"""A folder of captioned clips to a latent dataset."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from keras_makeavid.data.clip_encoder import ClipEncoder
from keras_makeavid.data.clip_filter import ClipFilter
from keras_makeavid.data.clip_reading import ClipSettings, read_clip
from keras_makeavid.data.encode_report import EncodeReport
from keras_makeavid.data.parallel import map_in_order
from keras_makeavid.data.ray_encoding import RayWorkers
from keras_makeavid.data.reader import LatentClip
from keras_makeavid.data.writer import open_writer
from keras_makeavid.video.reader import check_window
from keras_makeavid.video.resize import check_size
from keras_makeavid.video.scenes import import_scenedetect


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
    clip_filter: ClipFilter | None = None,
    split_scenes: bool = False,
    layout: str = "sharded",
    half: bool = False,
    num_workers: int = 0,
    ray_workers: RayWorkers | None = None,
    on_clip: Callable[[str], None] = lambda clip_id: None,
) -> EncodeReport:
    """Encode clips and captions as latents and text states.

    A clip is finished when the dataset has it with this very caption, these settings
    and weights, and from a file of the same bytes: then it is skipped, so that a run
    that was stopped goes on where it was. A broken clip is reported, left out, and
    tried again by the next run. Clips that the dataset has from other folders stay
    as they are. What became of each clip is also written as `report.json`.

    Args:
        captions: caption of each clip, as from `read_captions`.
        out: dataset folder, made or continued.
        vae: an `AutoencoderKL`; latents are its posterior means, not scaled.
        text_encoder: takes `{"token_ids"}`, returns text states `(1, L, D)`.
        preprocessor: turns a caption into token ids `(1, L)`.
        height: height of the frames in pixels; clips are scaled to cover and cropped.
        width: width of the frames in pixels.
        fps: frames a second to resample to; `None` keeps the clip's own.
        num_frames: frames to take of each clip; `None` takes all.
        start: where to begin in each clip, in seconds.
        clip_filter: what to leave out; `None` leaves nothing out.
        split_scenes: make each scene between two cuts a clip of its own, `ID-1`,
            `ID-2` and so on; scenes of fewer than `num_frames` are dropped.
        layout: `"sharded"`, or `"published"` for that of spec section 7.
        half: store float16 instead of float32; of the sharded layout only.
        num_workers: processes that decode clips, while this one encodes them; 0
            decodes here. A script that uses them needs the
            `if __name__ == "__main__"` of `multiprocessing`.
        ray_workers: workers of a Ray cluster that decode and encode clips, in the
            place of this process and of `num_workers`.
        on_clip: called with each clip's id when it is done, skipped or left out.

    Returns:
        An `EncodeReport`.

    Raises:
        ValueError: if an argument makes no sense, the size does not fit the VAE, or
            two clips would have one id.
        ImportError: if scenes are to be split without PySceneDetect.

    Example:
        ```python
        task = keras_makeavid.TextToVideo.from_preset("preset")
        report = encode_clips(
            read_captions("clips"), "dataset",
            task.vae, task.text_encoder, task.preprocessor.tokenize, fps=8,
        )
        ```
    """
    settings = ClipSettings(height, width, fps, num_frames, start, split_scenes)
    clip_filter = clip_filter or ClipFilter()
    _check_arguments(vae, settings, clip_filter, num_workers)
    ids = _clip_ids(captions)
    writer = open_writer(out, layout, half)
    stored = _stored_parts(writer.stored, ids)
    encoder = ClipEncoder(vae, text_encoder, preprocessor)
    wanted = {
        clip: {
            "caption": captions[clip],
            "source": _source(clip),
            "settings": asdict(settings),
            "encoder": encoder.fingerprint,
        }
        for clip in ids
    }
    requests = (
        (clip, settings, clip_filter, _sha256_if_whole(stored[clip], wanted[clip]))
        for clip in ids
    )
    report = EncodeReport()
    if ray_workers is None:
        contents = map_in_order(read_clip, requests, num_workers)
    else:
        texts = [captions[clip] for clip in ids]
        contents = ray_workers.contents(requests, texts, encoder.fingerprint)
    for (clip, clip_id), content in zip(ids.items(), contents, strict=True):
        if content.unchanged:
            kept = _keep(writer, stored[clip], clip_filter, report)
        else:
            kept = _encode(writer, clip_id, content, wanted[clip], encoder, report)
        if content.readable:
            for part_id in stored[clip].keys() - kept:
                writer.remove(part_id)
        on_clip(clip_id)
    writer.finish()
    report.write(Path(out))
    return report


def _keep(writer, stored, clip_filter, report) -> set[str]:
    """Keep a clip's parts, but those that a filter of this run drops."""
    kept = set()
    for part_id, metadata in stored.items():
        source = [metadata[f"source_{name}"] for name in ("height", "width", "fps")]
        reason = clip_filter.of_source(*source)
        reason = reason or clip_filter.of_length(metadata["frames"])
        if reason:
            report.dropped[part_id] = reason
        else:
            writer.keep(part_id)
            report.skipped.append(part_id)
            kept.add(part_id)
    return kept


def _encode(writer, clip_id, content, wanted, encoder, report) -> set[str]:
    """Encode a clip's parts, but those that are stored already."""
    if content.failed is not None:
        report.failed[clip_id] = content.failed
    for suffix, reason in content.dropped.items():
        report.dropped[clip_id + suffix] = reason
    kept = set()
    for part in content.parts:
        part_id, metadata = clip_id + part.suffix, {**wanted, **part.facts}
        if writer.stored.get(part_id) == metadata:
            writer.keep(part_id)
            report.skipped.append(part_id)
        else:
            writer.add(_encoded(part_id, part.frames, metadata, encoder))
            report.encoded.append(part_id)
        kept.add(part_id)
    return kept


def _encoded(part_id, frames, metadata, encoder):
    if isinstance(frames, tuple):
        # Of a worker of Ray, which has encoded them.
        return LatentClip(part_id, *frames, metadata)
    return encoder.encode(part_id, frames, metadata)


def _check_arguments(vae, settings, clip_filter, num_workers):
    check_window(settings.start, settings.num_frames, settings.fps)
    check_size(settings.height, settings.width)
    factor = vae.downsampling_factor
    if settings.height % factor or settings.width % factor:
        raise ValueError(
            f"height and width must be multiples of {factor} for this VAE. Received: "
            f"height={settings.height}, width={settings.width}"
        )
    if settings.num_frames and settings.num_frames < clip_filter.min_frames:
        raise ValueError(
            f"No clip of num_frames={settings.num_frames} has "
            f"min_frames={clip_filter.min_frames}"
        )
    if settings.split_scenes:
        import_scenedetect()
    if num_workers < 0:
        raise ValueError(f"num_workers must be 0 or more. Received: {num_workers}")


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


def _source(clip: Path) -> str:
    """The file's name in its folder: the same wherever the folder lies."""
    return f"{clip.absolute().parent.name}/{clip.name}"


def _stored_parts(
    stored: Mapping[str, dict], ids: Mapping[Path, str]
) -> dict[Path, dict[str, dict]]:
    """Ids and metadata of what the dataset has of each clip."""
    of_id: dict[str, dict[str, dict]] = {}
    for part_id, metadata in stored.items():
        of_scene = "scene" in metadata
        clip_id = part_id.rpartition("-")[0] if of_scene else part_id
        of_id.setdefault(clip_id, {})[part_id] = metadata
    parts = {clip: of_id.get(clip_id, {}) for clip, clip_id in ids.items()}
    for clip, of_clip in parts.items():
        for part_id, metadata in of_clip.items():
            if metadata.get("source") != _source(clip):
                raise ValueError(
                    f"{clip} would have the id {part_id!r}, which the dataset has of "
                    f"{metadata.get('source')!r}: rename it"
                )
    return parts


def _sha256_if_whole(stored: Mapping[str, dict], wanted: dict) -> str | None:
    """SHA-256 of the file of which all parts are stored as wanted, if they are."""
    parts = list(stored.values())
    if not parts or len(parts) != parts[0].get("scenes", 1):
        return None
    if not all(wanted.items() <= metadata.items() for metadata in parts):
        return None
    hashes = {metadata.get("source_sha256") for metadata in parts}
    return hashes.pop() if len(hashes) == 1 else None
