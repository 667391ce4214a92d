"""A file of named tensors, of which only the header has been read."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from weights_tools.containers.errors import ContainerError
from weights_tools.containers.tensor_spec import TensorSpec


class TensorFile(ABC):
    """Named tensors in a file, read one at a time. A context manager.

    Attributes:
        path: the file.
        specs: shape and dtype of each tensor by name, in the order of the file; known
            from the header alone.
        metadata: what the file says of itself.

    Args:
        path: the file.
        specs: shape and dtype of each tensor by name.
        metadata: what the file says of itself.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        specs: Mapping[str, TensorSpec],
        metadata: Mapping[str, str] | None = None,
    ):
        self.path = Path(path)
        self.specs: Mapping[str, TensorSpec] = MappingProxyType(dict(specs))
        self.metadata: dict[str, str] = dict(metadata or {})

    def read(self, name: str) -> np.ndarray:
        """Read one tensor; the bytes of the others are not touched.

        Args:
            name: one of `specs`.

        Returns:
            A read-only array of the shape and dtype in `specs`. It may be a view of
            the mapped file, not always aligned, and outlives `close`.

        Raises:
            ContainerError: if there is no such tensor, or its data is damaged.
        """
        if name not in self.specs:
            raise ContainerError(self.path, "there is no such tensor", tensor=name)
        return self._read(name)

    @abstractmethod
    def _read(self, name: str) -> np.ndarray: ...

    @abstractmethod
    def close(self) -> None:
        """Close the file. Arrays that were read stay valid."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
