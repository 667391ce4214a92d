"""Checks on files to read, and files written aside and then renamed."""

from __future__ import annotations

import codecs
import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

StrPath = str | os.PathLike[str]


def existing_file(path: StrPath) -> Path:
    """Returns `path` if a file with something in it is there.

    Args:
        path: A file's path.

    Returns:
        The path.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: A folder, a device or an empty file is there.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a file.")
    if not path.is_file():
        raise ValueError(f"{path} is not an ordinary file.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes).")
    return path


def existing_parent(path: StrPath) -> Path:
    """Return the path of what is to be written, if the folder around it exists.

    Raises:
        FileNotFoundError: The folder is missing.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to write {path} in.")
    return path


def read_text(path: StrPath, max_bytes: int = 2**26) -> str:
    """Reads a text file in UTF-8.

    A byte order mark is left out, and line ends of Windows become plain ones.

    Args:
        path: The file.
        max_bytes: Size above which it is refused.

    Returns:
        The text.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: It is too large, or in another encoding. The text names the file.
    """
    path = Path(path)
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"{path} is larger than {max_bytes} bytes.")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{path} is in UTF-16, expected UTF-8: save it as UTF-8.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8: {error}.") from error
    return text.replace("\r\n", "\n")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` that becomes `path` when the block succeeds.

    A reader sees the old file or the new one, never half of one, and a failure leaves
    nothing behind.

    Args:
        path: The file to write.

    Yields:
        A path in the same folder that does not exist yet.
    """
    aside = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes what was being written in a folder by a process that was killed.

    Args:
        folder: A folder that no other process writes in.
    """
    # The second is what safetensors names a file until it is whole.
    for pattern in (".*.part", ".tmp??????"):
        for path in folder.glob(pattern):
            if path.is_file():
                path.unlink()


def check_replaceable_folder(path: StrPath, marker: str | None) -> Path:
    """Returns `path` if a folder may be written there.

    Args:
        path: The folder to write.
        marker: Name of a file that a folder must hold, or be empty, to be replaced;
            None lets any folder be replaced.

    Returns:
        The path.

    Raises:
        FileNotFoundError: The folder to write it in is missing.
        FileExistsError: Something else than what may be replaced is there.
    """
    path = existing_parent(path)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file, expected a folder or nothing.")
    others = path.exists() and any(path.iterdir())
    if others and marker and not (path / marker).exists():
        raise FileExistsError(
            f"{path} holds files but no {marker}: choose another folder."
        )
    return path


def _put_back(path: Path) -> None:
    """Puts back the folder that a process killed between two renames took away."""
    olds = list(path.parent.glob(f".{glob.escape(path.name)}.*.old"))
    if olds and not path.exists():
        os.rename(max(olds, key=lambda old: old.stat().st_mtime), path)


@contextmanager
def folder_written_aside(path: StrPath, replaces: str | None = None) -> Iterator[Path]:
    """Gives a new folder beside `path` that becomes `path` when the block succeeds.

    A folder cannot be renamed over one with files in it: between two renames there is
    neither. A process killed just then leaves the old one as `.NAME.ID.old`, which the
    next to write there puts back first.

    Args:
        path: The folder to write; one that exists already is replaced whole.
        replaces: Name of a file that a folder must hold, or be empty, to be replaced.

    Yields:
        An empty folder beside it.

    Raises:
        FileNotFoundError: The folder to write it in is missing.
        FileExistsError: Something else than what may be replaced is there.
    """
    _put_back(existing_parent(path))
    path = check_replaceable_folder(path, replaces)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    aside.mkdir()
    try:
        yield aside
        if path.exists():
            old = aside.with_suffix(".old")
            os.rename(path, old)
            try:
                os.rename(aside, path)
            except BaseException:
                os.rename(old, path)
                raise
            shutil.rmtree(old)
        else:
            os.rename(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
