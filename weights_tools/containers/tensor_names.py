"""Names of tensors that a nested file spells out piece by piece."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from weights_tools.containers.errors import ContainerError

SEPARATOR = "/"
# Deeper than any model nests, and shallow enough for Python to walk.
DEEPEST = 64
_SPARE = 2**22


class NameCollector:
    """Checks each name of a nested file while its tensors are collected.

    In such a file a few long names of groups can stand before very many short ones:
    joined, they would take far more memory than the file.

    Args:
        path: the file, for the text of errors.
        size: bytes of the file.
    """

    def __init__(self, path: Path, size: int):
        self._path = path
        self._left = size + _SPARE
        self._seen: set[str] = set()

    def joined(self, prefix: tuple[str, ...], last: str) -> str:
        """The full name of a tensor.

        Args:
            prefix: names of the groups around it.
            last: its own name.

        Raises:
            ContainerError: if another has it, or names grow beyond the file.
        """
        name = SEPARATOR.join((*prefix, last))
        self._left -= len(name)
        if self._left < 0:
            raise ContainerError(self._path, "names are longer than the file", name)
        if name in self._seen:
            raise ContainerError(self._path, "stands there twice", tensor=name)
        self._seen.add(name)
        return name

    def check_depth(self, prefix: tuple[str, ...]) -> None:
        """Check that groups do not nest beyond reason.

        Args:
            prefix: names of the groups around what follows.

        Raises:
            ContainerError: if they do.
        """
        if len(prefix) > DEEPEST:
            raise ContainerError(
                self._path,
                f"groups nest deeper than {DEEPEST}",
                tensor=SEPARATOR.join(prefix),
            )


def nested(names: Iterable[str]) -> dict[str, Any]:
    """The tree that names with slashes spell; each leaf is the full name.

    Args:
        names: the names of all tensors.

    Raises:
        ValueError: if one is a tensor and a group at once, or nests too deeply.

    Example:
    ```python
    nested(["conv/kernel", "conv/bias"])
    # {"conv": {"kernel": "conv/kernel", "bias": "conv/bias"}}
    ```
    """
    tree: dict[str, Any] = {}
    for name in names:
        *groups, last = name.split(SEPARATOR)
        if len(groups) > DEEPEST:
            raise ValueError(f"Groups nest deeper than {DEEPEST}: {name!r}")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
            if not isinstance(node, dict):
                raise ValueError(f"A tensor's name begins that of another: {name!r}")
        if last in node:
            raise ValueError(f"A tensor's name begins that of another: {name!r}")
        node[last] = name
    return tree
