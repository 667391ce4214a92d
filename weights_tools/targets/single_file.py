"""One file of weights, of one model or of a whole checkpoint of LDM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from weights_tools.component import metadata_of
from weights_tools.copying import bytes_to_write, write_file
from weights_tools.kinds import MODELS
from weights_tools.layouts import Layout, get_layout
from weights_tools.source import Source
from weights_tools.targets.checks import check_holds


class SingleFileWriter:
    """Writes the models of a source into one file.

    Args:
        source: the models; more than one for `"ldm"` only.
        layout: name of the layout.
        dtype: dtype of the weights; `None` keeps each tensor's.

    Raises:
        ValueError: if the layout does not hold the source.
    """

    def __init__(self, source: Source, layout: str, dtype: str | None):
        components = [c for part, c in source.components.items() if part in MODELS]
        if layout != "ldm" and len(components) > 1:
            raise ValueError(
                f"A file in layout {layout!r} holds one model: write a folder, or name "
                f"the part. Received: {sorted(source.components)}"
            )
        self._parts = [(c, get_layout(c.kind, layout), None) for c in components]
        for component, held, _ in self._parts:
            check_holds(component, held)
        self._dtype = dtype
        self.total_bytes = bytes_to_write(self._parts, dtype)

    @property
    def layouts(self) -> dict[str, Layout]:
        """The layout of each part."""
        return {c.kind: layout for c, layout, _ in self._parts}

    def write(self, path: Path, on_bytes: Callable[[int], object]) -> None:
        """Write the file.

        Args:
            path: the file.
            on_bytes: called with the number of bytes written since the last call.
        """
        container = self._parts[0][1].container
        metadata = {}
        if container != "flax_msgpack":
            metadata = metadata_of(component for component, _, _ in self._parts)
        if container == "safetensors":
            # PyTorch's loaders ask what wrote it.
            metadata["format"] = "pt"
        write_file(path, self._parts, self._dtype, on_bytes, metadata)
