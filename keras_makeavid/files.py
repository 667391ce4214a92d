"""Checks on files to read, and files written aside and then renamed."""

import codecs
import glob
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

StrPath = str | os.PathLike[str]
_MARKS_OF_UTF16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
# What is left in the place of a file that was not downloaded, by how it begins.
_WEBSITE = "is a page of a website, not the file: log in, and download it again"
_SUBSTITUTES = {
    r"version https://git-lfs": "is a pointer of Git LFS to the file, which was not "
    "downloaded: fetch it with `git lfs pull`",
    r"[./\\]*(git)?[/\\]annex[/\\]objects[/\\]": "is a pointer of git-annex to the "
    "file, which was not downloaded: fetch it with `git annex get`",
    r"<!doctype html|<html\b|<\?xml\b": _WEBSITE,
}
# The same in the place of a file that is no text: a caption or JSON may begin so.
_ANSWERS = {r'<|\{\s*"(errors?|message|detail|status)"\s*:': _WEBSITE}


def substitute_in(head: bytes, of_text: bool = False) -> str | None:
    """Say what a file that begins so is, if a download left it in a file's place."""
    start = head[:4096].removeprefix(codecs.BOM_UTF8).lstrip().decode("latin-1")
    for begin, what in (_SUBSTITUTES if of_text else _SUBSTITUTES | _ANSWERS).items():
        if re.match(begin, start, re.IGNORECASE):
            return what
    return None


def problem_of(path: Path, error: Exception) -> str:
    """Say what is wrong with a binary file that a library refuses by an error."""
    with path.open("rb") as file:
        return substitute_in(file.read(64)) or f"is damaged: {error}"


def is_text(head: bytes) -> bool:
    """Whether a file that begins so is text, as no video, picture or tensors are."""
    if head.startswith(_MARKS_OF_UTF16):
        return True
    if b"\0" in head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def missing_file(path: Path) -> FileNotFoundError:
    """The error of a file that is not there, which names what a link leads to."""
    link = f", which {path} is a link to" if path.is_symlink() else ""
    target = os.readlink(path) if link else path
    return FileNotFoundError(f"There is no file {target}{link}.")


def existing_file(path: StrPath) -> Path:
    """Return `path` if a file with something in it is there."""
    path = Path(path)
    if not path.exists():
        raise missing_file(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a file.")
    if not path.is_file():
        raise ValueError(f"{path} is not an ordinary file.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes).")
    return path


def existing_parent(path: StrPath) -> Path:
    """Return the path of what is to be written, if the folder around it exists."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to write {path} in.")
    return path


def read_text(path: StrPath, max_bytes: int = 2**26) -> str:
    """Read a text file in UTF-8 of at most `max_bytes`, without a byte order mark.

    Line ends of any system become plain ones.
    """
    path = Path(path)
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"{path} is larger than {max_bytes} bytes.")
    if what := substitute_in(content, of_text=True):
        raise ValueError(f"{path} {what}.")
    if b"\0" in content or content.startswith(_MARKS_OF_UTF16):
        problem = f"{path} is in UTF-16 or UTF-32, or is no text"
        raise ValueError(f"{problem}. Expected UTF-8: save it as UTF-8.")
    try:
        text = content.decode("utf-8-sig").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8: {error}.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a path beside `path` that becomes `path`, whole, when the block succeeds."""
    aside = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed was writing in a folder."""
    # The second is what safetensors names a file until it is whole.
    for pattern in (".*.part", ".tmp??????"):
        for path in folder.glob(pattern):
            if path.is_file():
                path.unlink()


def check_replaceable_folder(path: StrPath, marker: str | None) -> Path:
    """Return `path` if a folder may be written there.

    One that holds files must hold `marker`; with `None` any may be replaced.
    """
    path = existing_parent(path)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file, expected a folder or nothing.")
    others = path.exists() and any(path.iterdir())
    if others and marker and not (path / marker).exists():
        problem = f"{path} holds files but no {marker}"
        raise FileExistsError(f"{problem}: choose another folder.")
    return path


def put_back(path: Path) -> None:
    """Put back the folder that a process killed between two renames took away."""
    olds = list(path.parent.glob(f".{glob.escape(path.name)}.*.old"))
    if olds and not path.exists():
        os.rename(max(olds, key=lambda old: old.stat().st_mtime), path)


@contextmanager
def folder_written_aside(path: StrPath, replaces: str | None = None) -> Iterator[Path]:
    """Give a new folder beside `path` that becomes `path` when the block succeeds.

    A folder that is there, which must hold the marker `replaces`, is replaced whole. A
    process killed between the two renames leaves the old one as `.NAME.ID.old`, which
    the next to write there puts back first.
    """
    put_back(existing_parent(path))
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
