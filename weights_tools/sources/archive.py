"""A `.keras` file of one of our models."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from weights_tools.component import component_from_file, find_layout
from weights_tools.formats import FormatError, open_tensors
from weights_tools.source import Source
from weights_tools.sources.preset import WEIGHTS, model_in


def is_archive(path: Path) -> bool:
    """Whether a file is a `.keras` archive."""
    return path.suffix == ".keras"


def open_archive(path: Path, stack: ExitStack, overrides: Mapping[str, Any]) -> Source:
    """Open a `.keras` file; its weights are unpacked to a temporary folder.

    Args:
        path: the file.
        stack: removes the folder.
        overrides: arguments of the UNet that are known better.

    Raises:
        FormatError: if it is damaged or compressed, which Keras's are not.
        ValueError: if it is of none of our models.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    try:
        with zipfile.ZipFile(path) as archive:
            for member in ("config.json", WEIGHTS):
                _unpack(archive, member, folder)
    except Exception as error:
        # Damage meets Python's reader in many ways, not all of them `BadZipFile`.
        raise FormatError(path, f"is no whole .keras file: {error}") from error
    try:
        kind, arguments = model_in(folder / "config.json")
        file = stack.enter_context(open_tensors(folder / WEIGHTS))
        layout, root = find_layout(file, kind, "keras")
        if kind == "unet":
            arguments |= overrides
        component = component_from_file(file, layout, root, arguments)
    except FormatError as error:
        # It names a file that is gone when it is read.
        raise FormatError(path, str(error)) from error
    return Source({kind: replace(component, path=path)})


def _unpack(archive: zipfile.ZipFile, member: str, folder: Path) -> None:
    if member not in archive.namelist():
        raise ValueError(f"it has no {member}")
    # What is compressed could have any size.
    if archive.getinfo(member).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member} is compressed, which Keras does not do")
    with archive.open(member) as stored, (folder / member).open("wb") as file:
        shutil.copyfileobj(stored, file, 2**20)
