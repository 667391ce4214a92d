"""Video and picture files of a folder, and their captions."""

import csv
import io
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from keras_makeavid.files import read_text
from keras_makeavid.json_files import parse_json

VIDEO_SUFFIXES = (
    *(".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".3gp", ".3g2"),
    *(".ts", ".mts", ".m2ts", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".vob", ".mxf"),
    *(".divx", ".gif", ".webp", ".apng"),
)
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")

_TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
# Tables and columns; the second of each is how datasets of the hub name theirs.
_TABLES = ("captions", "metadata")
_FILE_COLUMNS = ("file", "file_name")
_CAPTION_COLUMNS = ("caption", "text")
_MAX_TABLE_BYTES = 2**31

# Folders that systems make, in small letters. macOS also puts `._NAME` beside a file.
_SYSTEM_FOLDERS = {"__macosx", "$recycle.bin", "system volume information", "@eadir"}


def read_captions(
    clips: str | os.PathLike,
    captions: str | os.PathLike | None = None,
    suffixes: Collection[str] = VIDEO_SUFFIXES,
    hidden: list[Path] | None = None,
) -> dict[Path, str]:
    """Pair the clips of a folder with their captions: a dict, sorted by path.

    Args:
        clips: Folder of video files. Folders inside it are searched too.
        captions: A table with the columns or keys `file` (path within `clips`) and
            `caption`, or `file_name` and `text`: `.csv` or `.tsv` with a header, or
            `.jsonl`. `None` takes the folder's file `captions` or `metadata` of such
            columns, and else the `.txt` file of the same name beside each clip.
        suffixes: Suffixes of the files to look for, such as `PICTURE_SUFFIXES`.
        hidden: Takes the hidden and system files, which are passed over.

    Raises:
        FileNotFoundError: The folder or table is missing, or has no clips.
        ValueError: A table is malformed, names a file outside of the folder, missing or
            twice; or a clip has no caption. The text names them.

    Example:
    ```python
    read_captions("clips")  # {Path("clips/cat.mp4"): "a cat"}
    ```
    """
    folder = _existing_folder(clips)
    if captions is None:
        captions = _find_table(folder)
    if captions is None:
        pairs = _from_text_files(folder, suffixes, hidden)
    else:
        pairs = _from_table(folder, Path(captions))
    if not pairs:
        raise ValueError(f"{captions} must have a row for each clip. Received: no row")
    without = [str(clip) for clip, caption in pairs.items() if not caption.strip()]
    if without:
        raise ValueError(
            f"{len(without)} files have no caption (a .txt file beside each, or a "
            f"captions table): {', '.join(without[:10])}"
        )
    return {clip: pairs[clip].strip() for clip in sorted(pairs)}


def find_files(
    folder: str | os.PathLike,
    suffixes: Collection[str],
    hidden: list[Path] | None = None,
) -> list[Path]:
    """Find files in a folder and those inside it, but `hidden` and system files.

    That there are none is a `FileNotFoundError`.
    """
    folder = _existing_folder(folder)
    hidden = [] if hidden is None else hidden
    found: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in suffixes and path.is_file():
            is_hidden = any(
                name.startswith((".", "~$")) or name.lower() in _SYSTEM_FOLDERS
                for name in path.relative_to(folder).parts
            )
            (hidden if is_hidden else found).append(path)
    if not found:
        raise FileNotFoundError(
            f"There are no clips or pictures ({', '.join(suffixes)}) in {folder}"
        )
    return found


def _existing_folder(folder: str | os.PathLike) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}")
    return folder


def _from_text_files(
    folder: Path, suffixes: Collection[str], hidden: list[Path] | None
) -> dict[Path, str]:
    # Cameras and Windows write suffixes in capitals.
    texts = {path.with_suffix(""): path for path in folder.rglob("*.[tT][xX][tT]")}
    pairs = {}
    for clip in find_files(folder, suffixes, hidden):
        text = texts.get(clip.with_suffix(""))
        pairs[clip] = read_text(text) if text else ""
    return pairs


def _find_table(folder: Path) -> Path | None:
    files = {path.name.lower(): path for path in folder.iterdir() if path.is_file()}
    names = (name + suffix for name in _TABLES for suffix in _TABLE_SUFFIXES)
    tables = [files[name] for name in names if name in files]
    # Named as those of the hub are also tables of anything else.
    tables = [
        table
        for table in tables
        if table.stem.lower() == _TABLES[0]
        or all(_cells(next(_rows(table), (0, 0))[1]))
    ]
    if len(tables) > 1:
        raise ValueError(f"{folder} must have one captions table. Received: {tables}")
    return tables[0] if tables else None


def _from_table(folder: Path, table: Path) -> dict[Path, str]:
    if not table.is_file():
        raise FileNotFoundError(f"There is no captions table at {table}")
    if table.suffix.lower() not in _TABLE_SUFFIXES:
        expected = f"A captions table is one of {_TABLE_SUFFIXES}"
        raise ValueError(f"{expected}. Received: {table}")
    pairs: dict[Path, str] = {}
    lines: dict[Path, int] = {}
    for number, row in _rows(table):
        name, caption = _cells(row)
        if name is None or caption is None:
            raise ValueError(
                f"{table}, line {number}: expected the strings 'file' and 'caption', "
                f"or 'file_name' and 'text'. Received: {row!r:.300}"
            )
        clip = _named_file(folder, name)
        if not clip.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{table}, line {number}: {name!r} is outside of {folder}")
        if not clip.is_file():
            raise ValueError(f"{table}, line {number}: there is no clip {clip}")
        if clip in pairs:
            raise ValueError(
                f"{table}, line {number}: {name!r} must stand in one line only. "
                f"Received: it stands in line {lines[clip]} too"
            )
        pairs[clip], lines[clip] = caption, number
    return pairs


def _cells(row: Any) -> tuple[str | None, str | None]:
    """The file and the caption of a row, or `None` for what it lacks."""
    # Under None are the fields of a CSV row that are more than the header's.
    if not isinstance(row, dict) or any(map(str.strip, row.get(None) or ())):
        return None, None
    values = (
        next((row[key] for key in columns if key in row), None)
        for columns in (_FILE_COLUMNS, _CAPTION_COLUMNS)
    )
    name, caption = (value if isinstance(value, str) else None for value in values)
    return name, caption


def _named_file(folder: Path, name: str) -> Path:
    """The file that a table names, as any system writes its path."""
    forms = (name, name.replace("\\", "/").strip())
    paths = [Path(os.path.normpath(folder / form)) for form in forms]
    return next((path for path in paths if path.is_file()), paths[0])


def _rows(table: Path) -> Iterator[tuple[int, Any]]:
    """Numbers of lines, and what stands in them."""
    text = read_text(table, _MAX_TABLE_BYTES)
    file = io.StringIO(text)
    if table.suffix.lower() == ".jsonl":
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, parse_json(line, f"{table}, line {number}")
        return
    header = file.readline()
    file.seek(0)
    # Where a comma is part of numbers, spreadsheets separate by semicolons.
    names = {m: {n.strip(' "\n') for n in header.lower().split(m)} for m in ",;\t"}
    separator = next((m for m in names if names[m] & {*_CAPTION_COLUMNS}), ",")
    reader = csv.DictReader(file, delimiter=separator, strict=True)
    try:
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        for row in reader:
            # Spreadsheets write empty rows as separators only.
            if any("".join(value or "").strip() for value in row.values()):
                yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{table} is malformed: {error}") from error
