"""A `.keras` file of one of our models."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from weights_tools.component import component_from_file, find_layout
from weights_tools.containers import ContainerError, open_tensors
from weights_tools.containers.mapped_file import MappedFile
from weights_tools.containers.zip_directory import zip_extents
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
        ContainerError: if it is damaged or compressed, which Keras's are not.
        ValueError: if it is of none of our models.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    archive = MappedFile(path)
    members = zip_extents(archive)
    for member in ("config.json", WEIGHTS):
        if member not in members:
            raise ContainerError(path, f"is no .keras file: it has no {member}")
        start, nbytes = members[member]
        (folder / member).write_bytes(memoryview(archive.map)[start : start + nbytes])
    try:
        kind, arguments = model_in(folder / "config.json")
        file = stack.enter_context(open_tensors(folder / WEIGHTS))
        layout, root = find_layout(file, kind, "keras")
        if kind == "unet":
            arguments |= overrides
        component = component_from_file(file, layout, root, arguments)
    except ContainerError as error:
        # It names a file that is gone when it is read.
        raise ContainerError(path, str(error)) from error
    return Source({kind: replace(component, path=path)})
