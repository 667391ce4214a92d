"""A `.keras` file of one of our models."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from weights_tools.component import component_from_file, find_layout, read_config
from weights_tools.containers import ContainerError, open_tensors
from weights_tools.source import Source
from weights_tools.sources.preset import WEIGHTS, arguments_of_config


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
        ContainerError: if it is damaged, or takes more room unpacked than packed.
        ValueError: if it is of none of our models.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    try:
        with zipfile.ZipFile(path) as archive:
            for member in ("config.json", WEIGHTS):
                _unpack(archive, member, folder / member)
    except (zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        raise ContainerError(path, f"is no .keras file: {error}") from error
    kind, arguments = arguments_of_config(read_config(folder / "config.json"))
    file = stack.enter_context(open_tensors(folder / WEIGHTS))
    layout, root = find_layout(file, kind, "keras")
    if kind == "unet":
        arguments |= overrides
    return Source({kind: component_from_file(file, layout, root, arguments)})


def _unpack(archive, member, target):
    info = archive.getinfo(member)
    # Keras stores without compression: what grows was made to fill the disk.
    if info.file_size > info.compress_size:
        raise ContainerError(Path(archive.filename), f"compresses {member}")
    with archive.open(info) as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file, 2**20)
