"""The whole layout of a file to be written, known before its first tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from weights_tools.containers.mapped_file import Extent

Extents = Mapping[str, tuple[Extent, ...]]


class LayoutPlan(Protocol):
    """How to begin a file of tensors.

    Attributes:
        size: bytes of the complete file, as far as known.
    """

    size: int

    def begin(self, path: Path) -> Extents:
        """Write a new file with everything in it but the tensors.

        Args:
            path: where; nothing is there yet.

        Returns:
            Where the bytes of each tensor go, in order.
        """
        ...


@dataclass(frozen=True)
class HeadersPlan:
    """A file made of headers and tensors, all at offsets known in advance.

    Args:
        size: bytes of the complete file.
        heads: the headers as `(offset, bytes)`.
        extents: where the bytes of each tensor go, in order.
    """

    size: int
    heads: tuple[tuple[int, bytes], ...]
    extents: Extents

    def begin(self, path: Path) -> Extents:
        with path.open("xb") as file:
            file.truncate(self.size)
            for offset, head in self.heads:
                file.seek(offset)
                file.write(head)
        return self.extents
