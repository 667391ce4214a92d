"""The index of a sharded dataset: which clip is where, and how it must look."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_makeavid.data.json_files import check_clip_id, read_json, write_json

INDEX_NAME = "index.json"
FORMAT = "keras-makeavid latents"
VERSION = 1
DTYPES = ("float32", "float16")

# A shard is a file of the folder itself: its name is no path.
_SHARD = re.compile(r"[A-Za-z0-9_-]{1,100}\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class TensorEntry:
    """A tensor of a clip.

    Args:
        dtype: `"float32"` or `"float16"`.
        shape: its shape.
        sha256: of its bytes, little-endian and in C order, in hexadecimal.
    """

    dtype: str
    shape: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class ClipEntry:
    """A clip.

    Args:
        shard: name of the file that holds it.
        latents: `(F, H, W, C)`, not scaled.
        context: text states `(L, D)`.
        metadata: caption, source and more.
    """

    shard: str
    latents: TensorEntry
    context: TensorEntry
    metadata: dict[str, Any]


def tensor_names(clip_id: str) -> tuple[str, str]:
    """Names of a clip's latents and text states in its shard."""
    return f"{clip_id}/latents", f"{clip_id}/context"


def read_index(folder: Path) -> dict[str, ClipEntry]:
    """Read the index of a dataset, as input that anyone may have written.

    Args:
        folder: the dataset's folder.

    Returns:
        The entry of each clip id, in the dataset's order.

    Raises:
        FileNotFoundError: if the folder holds no index.
        ValueError: if it is malformed; names the clip and what is wrong.
    """
    path = folder / INDEX_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no latent dataset: it has no {path}")
    index = read_json(path)
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(f"{path} is no index of a latent dataset: {index!r:.80}")
    if index.get("version") != VERSION:
        raise ValueError(
            f"{path} is of version {index.get('version')!r:.20}; this program reads "
            f"version {VERSION}"
        )
    clips = index.get("clips")
    if not isinstance(clips, list):
        raise ValueError(f"{path}: clips must be a list. Received: {clips!r:.80}")
    entries = {}
    for clip in clips:
        clip_id = clip.get("id") if isinstance(clip, dict) else clip
        check_clip_id(clip_id, path)
        if clip_id in entries:
            raise ValueError(f"{path} has two clips of the id {clip_id}")
        try:
            entries[clip_id] = _clip_entry(clip)
        except ValueError as error:
            raise ValueError(f"{path}, clip {clip_id}: {error}") from error
    return entries


def write_index(folder: Path, entries: dict[str, ClipEntry]) -> None:
    """Write the index of a dataset, whole or not at all.

    Args:
        folder: the dataset's folder.
        entries: as `read_index` returns.
    """
    clips = [{"id": clip_id, **asdict(entry)} for clip_id, entry in entries.items()]
    index = {"format": FORMAT, "version": VERSION, "clips": clips}
    write_json(folder / INDEX_NAME, index)


def _clip_entry(clip):
    shard, metadata = clip.get("shard"), clip.get("metadata")
    if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
        raise ValueError(
            "shard must be the name of a .safetensors file of the same folder. "
            f"Received: {shard!r:.80}"
        )
    if not isinstance(metadata, dict):
        raise ValueError(f"metadata must be an object. Received: {metadata!r:.80}")
    return ClipEntry(
        shard,
        _tensor_entry(clip, "latents", rank=4),
        _tensor_entry(clip, "context", rank=2),
        metadata,
    )


def _tensor_entry(clip, name, rank):
    tensor = clip.get(name)
    if not isinstance(tensor, dict):
        raise ValueError(f"{name} must be an object. Received: {tensor!r:.80}")
    dtype, shape, sha256 = (tensor.get(key) for key in ("dtype", "shape", "sha256"))
    if dtype not in DTYPES:
        raise ValueError(
            f"{name}: dtype must be one of {DTYPES}. Received: {dtype!r:.80}"
        )
    sizes = shape if isinstance(shape, list) else ()
    if len(sizes) != rank or not all(type(n) is int and n > 0 for n in sizes):
        raise ValueError(
            f"{name}: shape must be {rank} positive integers. Received: {shape!r:.80}"
        )
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError(
            f"{name}: sha256 must be 64 hexadecimal digits. Received: {sha256!r:.80}"
        )
    return TensorEntry(dtype, tuple(shape), sha256)
