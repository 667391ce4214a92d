"""Checkpoints of Stable Diffusion in the place of presets: converted once, and kept."""

import hashlib
import json
import os
import re
import sys
from pathlib import Path

import weights_tools
from keras_makeavid import presets
from keras_makeavid.files import StrPath, folder_written_aside
from keras_makeavid.json_files import read_json, write_json

# Written last into a converted preset: the sizes of its files.
_RECORD = "converted.json"


def as_preset(preset: StrPath, motion: StrPath | None = None) -> str:
    """The preset itself, or the one that a checkpoint was converted to.

    A repository of the hub, a folder in diffusers' layout or a single file, no KerasHub
    preset, is converted; with `motion`, it gets these motion modules or new ones. The
    result is kept in `cache_folder()` under a key of the repository's commit, or of
    paths, sizes and times of the files.
    """
    preset = os.fspath(preset)
    if motion is not None:
        return _converted(*_found(preset), *_found(os.fspath(motion)))
    if preset in presets.PRESETS:
        return preset
    folder = presets.preset_folder(preset)
    if presets.is_preset(folder):
        return folder
    # KerasHub's error says what a preset may be.
    is_there = preset.startswith(presets.HUB_PREFIX) or Path(preset).exists()
    return _converted(*_found(preset)) if is_there else preset


def cache_folder() -> Path:
    """Where converted checkpoints are kept: in `KERAS_HOME`, or the user's cache."""
    home = os.environ.get("KERAS_HOME") or os.environ.get("XDG_CACHE_HOME")
    return Path(home or Path.home() / ".cache") / "keras_makeavid" / "presets"


def _found(source: str) -> tuple[str, str]:
    """A source, of the hub at its commit, and what identifies its content."""
    if source.startswith(presets.HUB_PREFIX):
        repository, _ = presets.repository_of(source)
        source = f"{presets.HUB_PREFIX}{repository}@{presets.snapshot(source).name}"
        return source, source
    path = Path(presets.preset_folder(source))
    if not path.exists():
        return source, source
    path = path.resolve()
    paths = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = [(file, file.stat()) for file in paths if file.is_file()]
    facts = [(str(file), s.st_size, s.st_mtime_ns) for file, s in states]
    return str(path), json.dumps(facts)


def _converted(
    source: str, identity: str, motion: str | None = None, of_motion: str = ""
) -> str:
    plain = source.removeprefix(presets.HUB_PREFIX).partition("@")[0]
    name = re.sub(r"[^\w.-]+", "-", plain)
    key = hashlib.sha256((identity + of_motion).encode()).hexdigest()[:16]
    folder = cache_folder() / f"{name.strip('-')[-60:]}-{key}"
    if _is_whole(folder):
        return str(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"{source} is converted once, to {folder}", file=sys.stderr)
    with folder_written_aside(folder) as aside:
        weights_tools.convert(
            source, aside, inflating="auto", motion=motion, force=True, progress=True
        )
        sizes = _sizes(aside)
        write_json(aside / _RECORD, sizes)
    print(f"{folder}: {sum(sizes.values()) / 1e9:.2f} GB", file=sys.stderr)
    return str(folder)


def _is_whole(folder: Path) -> bool:
    """Whether all files of a conversion are there, as large as they were."""
    try:
        return read_json(folder / _RECORD) == _sizes(folder)
    except (OSError, ValueError):
        return False


def _sizes(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _RECORD
    }
