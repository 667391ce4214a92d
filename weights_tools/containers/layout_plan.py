"""The whole layout of a file to be written, known before its first tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weights_tools.containers.mapped_file import Extent


@dataclass(frozen=True)
class LayoutPlan:
    """Every byte of a new file that is no tensor's, and where the tensors go.

    Args:
        size: bytes of the complete file.
        fixed: headers as `(offset, bytes)`.
        extents: where the bytes of each tensor go, in order.
    """

    size: int
    fixed: tuple[tuple[int, bytes], ...]
    extents: Mapping[str, tuple[Extent, ...]]
