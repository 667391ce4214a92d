"""A folder of captioned clips to a latent dataset."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_makeavid.data.clip_reading import (
    ClipContent,
    ClipFilter,
    ClipSettings,
    read_clip,
)
from keras_makeavid.data.reader import LatentClip
from keras_makeavid.data.sharded import ShardedWriter
from keras_makeavid.json_files import write_json
from keras_makeavid.parallel import map_in_order
from keras_makeavid.ray_workers import RayWorkers
from keras_makeavid.validation import check_least
from keras_makeavid.video.pictures import Colour, as_rgb
from keras_makeavid.video.reader import check_window, import_scenedetect
from keras_makeavid.video.resize import check_size

if TYPE_CHECKING:
    import keras

    from keras_makeavid.data.clip_encoder import ClipEncoder

# Longer names of files, and what is added to them, are too long for file systems.
_LONGEST_PLAIN_ID = 100
# Windows takes them for devices, whatever the suffix.
_DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)\d", re.IGNORECASE)


@dataclass
class EncodeReport:
    """What became of each clip, by id: `encoded`, or `skipped` as it was finished.

    Of those `dropped` by a filter, and of broken ones that `failed`, it says why.
    """

    encoded: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Place:
    """What the dataset calls a clip, and has of it: metadata by the id of each part."""

    id: str
    # The end of its path that tells it from others: the same wherever the folder lies.
    source: str
    stored: Mapping[str, dict]


def encode_clips(
    captions: Mapping[Path, str],
    out: str | os.PathLike,
    vae: keras.Model,
    text_encoder: keras.Model,
    tokenize: Callable[[str], np.ndarray],
    height: int = 512,
    width: int = 512,
    fps: float | None = None,
    num_frames: int | None = None,
    start: float = 0.0,
    clip_filter: ClipFilter | None = None,
    split_scenes: bool = False,
    half: bool = False,
    num_workers: int = 0,
    ray_workers: RayWorkers | None = None,
    on_clip: Callable[[str], None] = lambda clip_id: None,
    background: Colour = "white",
) -> EncodeReport:
    """Encode clips and captions as latents and text states; tell what became of each.

    A clip that the dataset has of the same bytes, caption, settings and weights is
    skipped: a stopped run continues where it was. A broken clip is reported, and tried
    again by the next run; what the dataset has of it stays. Clips of other folders
    stay. What became of each clip is also written as `report.json`.

    The id of a clip is its file name without suffix, made fit for a file name. Where
    two clips would have one id, or nothing fit is left, a hash of the path follows. A
    clip that the dataset has keeps its id.

    Args:
        captions: Caption of each clip, as from `read_captions`.
        out: Dataset folder, made or continued.
        vae: An `AutoencoderKL`. Latents are its posterior means, not scaled.
        text_encoder: Takes `{"token_ids"}` and returns text states `(1, L, D)`.
        tokenize: Turns a caption into token ids `(1, L)`: `task.preprocessor.tokenize`.
        height: Height of the frames in pixels. Clips are scaled to cover and cropped.
        width: Width of the frames in pixels.
        fps: Frames a second to resample to. `None` keeps the clip's own.
        num_frames: Frames to take of each clip. `None` takes all.
        start: Where to begin in each clip, in seconds.
        clip_filter: What to leave out. `None` leaves nothing out.
        split_scenes: Make each scene between two cuts a clip, `ID-1`, `ID-2` and so on.
            Scenes of fewer than `num_frames` are dropped.
        half: Store float16 instead of float32.
        num_workers: Processes that decode clips while this one encodes them; 0 for
            none. A script needs `if __name__ == "__main__"` for them.
        ray_workers: Workers of a Ray cluster that decode and encode in their place.
        on_clip: Called with each clip's id when it is done, skipped or left out.
        background: What lies behind transparent parts, as for `read_video`.

    Raises:
        ValueError: An argument makes no sense, or the size does not fit the VAE.
        ImportError: Scenes are to be split without PySceneDetect.

    Example:
    ```python
    task = keras_makeavid.TextToVideo.from_preset("preset")
    parts = task.vae, task.text_encoder, task.preprocessor.tokenize
    report = encode_clips(read_captions("clips"), "dataset", *parts, fps=8)
    ```
    """
    from keras_makeavid.data.clip_encoder import ClipEncoder

    rgb = "#{:02x}{:02x}{:02x}".format(*as_rgb(background))
    settings = ClipSettings(height, width, fps, num_frames, start, split_scenes, rgb)
    clip_filter = clip_filter or ClipFilter()
    _check_arguments(vae, settings, clip_filter, num_workers)
    writer = ShardedWriter(out, half)
    places = _places(captions, writer.stored)
    encoder = ClipEncoder(vae, text_encoder, tokenize)
    recorded = asdict(settings)
    if rgb == ClipSettings.background:
        # As it was recorded before there was a choice: such clips are not encoded anew.
        del recorded["background"]
    wanted = {
        clip: {
            "caption": captions[clip],
            "source": place.source,
            "settings": recorded,
            "encoder": encoder.fingerprint,
        }
        for clip, place in places.items()
    }
    requests = (
        (clip, settings, clip_filter, _sha256_if_whole(place.stored, wanted[clip]))
        for clip, place in places.items()
    )
    report = EncodeReport()
    if ray_workers is None:
        contents = map_in_order(read_clip, requests, num_workers)
    else:
        texts = [captions[clip] for clip in places]
        calls = zip(requests, texts, strict=True)
        arguments = (encoder.fingerprint,)
        contents = ray_workers.results(EncodingRayWorker, arguments, calls)
    for (clip, place), content in zip(places.items(), contents, strict=True):
        if content.unchanged:
            kept = _keep(writer, place.stored, clip_filter, report)
        else:
            kept = _encode(writer, place.id, content, wanted[clip], encoder, report)
        if content.failed is None:
            for part_id in place.stored.keys() - kept:
                writer.remove(part_id)
        on_clip(place.id)
    writer.finish()
    write_json(Path(out) / "report.json", asdict(report))
    return report


def _keep(writer, stored, clip_filter, report) -> set[str]:
    """Keep a clip's parts, but those that a filter of this run drops."""
    kept = set()
    for part_id, metadata in stored.items():
        source = [metadata[f"source_{name}"] for name in ("height", "width", "fps")]
        of_file = clip_filter.reason_by_header(*source)
        if reason := of_file or clip_filter.reason_by_length(metadata["frames"]):
            report.dropped[part_id] = reason
        else:
            writer.keep(part_id)
            report.skipped.append(part_id)
            kept.add(part_id)
    return kept


def _encode(
    writer, clip_id, content: ClipContent, wanted, encoder: ClipEncoder, report
) -> set[str]:
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
            encoded = part.frames
            # Where no worker of Ray has encoded them already.
            if not isinstance(encoded, tuple):
                encoded = encoder.encode(encoded, metadata["caption"])
            writer.add(LatentClip(part_id, *encoded, metadata))
            report.encoded.append(part_id)
        kept.add(part_id)
    return kept


def _check_arguments(
    vae: keras.Model, settings: ClipSettings, clip_filter: ClipFilter, num_workers: int
) -> None:
    check_window(settings.start, settings.num_frames, settings.fps)
    check_size(settings.height, settings.width)
    factor = vae.downsampling_factor
    if settings.height % factor or settings.width % factor:
        raise ValueError(
            f"height and width must be multiples of {factor} for this VAE. Received: "
            f"height={settings.height}, width={settings.width}"
        )
    if settings.split_scenes:
        import_scenedetect()
    check_least(0, num_workers=num_workers)


def _places(clips: Collection[Path], stored: Mapping[str, dict]) -> dict[Path, _Place]:
    """Find each clip in the dataset, or a place for it, as `encode_clips` says."""
    known: dict[tuple[str, str | None], dict[str, dict]] = {}
    for part_id, metadata in stored.items():
        clip_id = part_id.rpartition("-")[0] if "scene" in metadata else part_id
        of_clip = known.setdefault((clip_id, metadata.get("source")), {})
        of_clip[part_id] = metadata
    plain_ids = Counter({clip_id.lower() for clip_id, _ in known})
    places: dict[Path, _Place] = {}
    for clip in clips:
        for source in reversed(_sources(clip)):
            for clip_id in (_plain_id(clip), _long_id(clip, source)):
                if clip not in places and (clip_id, source) in known:
                    # No other clip can be the same.
                    of_clip = known.pop((clip_id, source))
                    places[clip] = _Place(clip_id, source, of_clip)
    new = [clip for clip in clips if clip not in places]
    ends = Counter(place.source for place in places.values())
    ends.update(source for clip in new for source in _sources(clip))
    # Some file systems take capitals for small letters.
    plain_ids.update(_plain_id(clip).lower() for clip in clips)
    for clip in new:
        whole = _sources(clip)[-1]
        source = next((end for end in _sources(clip) if ends[end] == 1), whole)
        clip_id = _plain_id(clip)
        fits = 0 < len(clip_id) <= _LONGEST_PLAIN_ID and not _DEVICES.fullmatch(clip_id)
        if not fits or plain_ids[clip_id.lower()] > 1:
            clip_id = _long_id(clip, source)
        places[clip] = _Place(clip_id, source, {})
    return {clip: places[clip] for clip in clips}


def _sources(clip: Path) -> list[str]:
    """Ever longer endings of a clip's path, beginning with folder and name."""
    parts = clip.absolute().parts
    return ["/".join(parts[-count:]) for count in range(2, len(parts) + 1)]


def _plain_id(clip: Path) -> str:
    return re.sub(r"\W+", "_", clip.stem, flags=re.ASCII).strip("_")


def _long_id(clip: Path, source: str) -> str:
    # A plain id has no hyphen: this is none of another clip, and no scene of one.
    name = _plain_id(clip)[:_LONGEST_PLAIN_ID] or "clip"
    return f"{name}-{hashlib.sha256(os.fsencode(source)).hexdigest()[:12]}"


def _sha256_if_whole(stored: Mapping[str, dict], wanted: dict) -> str | None:
    """SHA-256 of the source file, if its parts are all stored as wanted, or `None`."""
    parts = list(stored.values())
    if not parts or len(parts) != parts[0].get("scenes", 1):
        return None
    if not all(wanted.items() <= metadata.items() for metadata in parts):
        return None
    hashes = {metadata.get("source_sha256") for metadata in parts}
    return hashes.pop() if len(hashes) == 1 else None


class EncodingRayWorker:
    """What runs on another machine: reads clips and encodes them."""

    def __init__(self, preset: str, fingerprint: dict[str, Any]):
        from keras_makeavid import TextToVideo
        from keras_makeavid.data.clip_encoder import ClipEncoder

        task = TextToVideo.from_preset(preset, dtype="float32")
        parts = task.vae, task.text_encoder, task.preprocessor.tokenize
        self._encoder = ClipEncoder(*parts)
        if self._encoder.fingerprint != fingerprint:
            raise ValueError(f"{preset} has other weights on a worker than here")

    def work(self, request: tuple, caption: str) -> ClipContent:
        content = read_clip(*request)
        parts = []
        for part in content.parts:
            assert isinstance(part.frames, np.ndarray)
            encoded = self._encoder.encode(part.frames, caption)
            parts.append(replace(part, frames=encoded))
        return replace(content, parts=parts)
