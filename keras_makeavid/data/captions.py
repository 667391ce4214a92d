"""Clips and their captions."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif")

_TABLES = (".csv", ".jsonl")


def read_captions(
    clips: str | os.PathLike, captions: str | os.PathLike | None = None
) -> dict[Path, str]:
    """Pair the clips of a folder with their captions.

    Args:
        clips: folder of video files; folders inside it are searched too.
        captions: a table with the columns or keys `file` (path within `clips`) and
            `caption`: `.csv` with a header, or `.jsonl`. `None` takes the table of
            the name `captions.csv` or `captions.jsonl` in the folder if there is
            one, and else the `.txt` file of the same name beside each clip.

    Returns:
        A dict of clip to caption, sorted by path.

    Raises:
        FileNotFoundError: if the folder or table is missing, or has no clips.
        ValueError: if a table is malformed, names a file outside of the folder or a
            missing one, or a clip has no caption; names them.

    Example:
        ```python
        read_captions("clips")  # {Path("clips/cat.mp4"): "a cat"}
        ```
    """
    folder = Path(clips)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder of clips at {folder}")
    if captions is None:
        found = [folder / f"captions{suffix}" for suffix in _TABLES]
        captions = next((path for path in found if path.is_file()), None)
    pairs = (
        _from_text_files(folder) if captions is None else _from_table(folder, captions)
    )
    if not pairs:
        raise FileNotFoundError(
            f"There are no clips ({', '.join(VIDEO_SUFFIXES)}) in {folder}"
        )
    without = [str(clip) for clip, caption in pairs.items() if not caption.strip()]
    if without:
        raise ValueError(
            f"{len(without)} clips have no caption (a .txt file beside each, or a "
            f"captions table): {', '.join(without[:10])}"
        )
    return {clip: pairs[clip].strip() for clip in sorted(pairs)}


def _from_text_files(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    pairs = {}
    for clip in files:
        if clip.suffix.lower() in VIDEO_SUFFIXES:
            text = clip.with_suffix(".txt")
            pairs[clip] = _read_text(text) if text.is_file() else ""
    return pairs


def _read_text(path):
    try:
        # Windows' editors begin a file with a byte order mark.
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error


def _from_table(folder, table):
    table = Path(table)
    if not table.is_file():
        raise FileNotFoundError(f"There is no captions table at {table}")
    if table.suffix not in _TABLES:
        raise ValueError(f"A captions table is one of {_TABLES}. Received: {table}")
    pairs = {}
    for number, row in _rows(table):
        values = (row.get("file"), row.get("caption")) if isinstance(row, dict) else ()
        strings = len(values) == 2 and all(isinstance(value, str) for value in values)
        # Under None are the fields of a CSV row that are more than the header's.
        if not strings or None in row:
            raise ValueError(
                f"{table}, line {number}: expected the strings 'file' and 'caption'. "
                f"Received: {row!r}"
            )
        clip = folder / values[0]
        if not clip.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"{table}, line {number}: {values[0]!r} is outside of {folder}"
            )
        if not clip.is_file():
            raise ValueError(f"{table}, line {number}: there is no clip {clip}")
        pairs[clip] = values[1]
    return pairs


def _rows(table):
    read = _csv_rows if table.suffix == ".csv" else _jsonl_rows
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            yield from read(file)
    except (csv.Error, ValueError, RecursionError) as error:
        raise ValueError(f"{table} is malformed: {error}") from error


def _csv_rows(file):
    reader = csv.DictReader(file, strict=True)
    for row in reader:
        yield reader.line_num, row


def _jsonl_rows(file):
    for number, line in enumerate(file, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from error
