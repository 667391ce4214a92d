"""JSON files, and the lists of clip ids in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from keras_makeavid.files import written_aside

# An id becomes part of file names: nothing in it may leave the folder.
CLIP_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: if it is malformed; names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(json.dumps(value, indent=1), encoding="utf-8")


def read_id_list(path: Path) -> list[str]:
    """Read a list of clip ids.

    Returns:
        The ids; none if there is no file.

    Raises:
        ValueError: if it is no list of ids.
    """
    if not path.is_file():
        return []
    ids = read_json(path)
    if not isinstance(ids, list):
        raise ValueError(f"{path} must hold a list of ids. Received: {ids!r:.80}")
    for clip_id in ids:
        check_clip_id(clip_id, path)
    return ids


def check_clip_id(clip_id: Any, path: Path) -> None:
    """Refuse what is no id.

    Args:
        clip_id: what stands in its place.
        path: the file that it stands in.

    Raises:
        ValueError: if it could not be part of a file name.
    """
    if not isinstance(clip_id, str) or not CLIP_ID.fullmatch(clip_id):
        raise ValueError(
            f"{path}: an id is made of letters, digits, '_', '-' and '.'. "
            f"Received: {clip_id!r}"
        )
