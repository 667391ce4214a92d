"""HDF5 as h5py and Keras write it, its datasets named by their paths."""

from __future__ import annotations

import numpy as np

from weights_tools.containers.errors import ContainerError
from weights_tools.containers.hdf5_chunks import (
    ChunkedTensor,
    list_chunks,
    read_chunked,
)
from weights_tools.containers.hdf5_file import (
    ATTRIBUTE,
    DATASPACE,
    DATATYPE,
    EXTERNAL_FILES,
    FILTERS,
    LAYOUT,
    NEWER,
    SIGNATURE,
    SYMBOL_TABLE,
    UNDEFINED,
    Hdf5Error,
    Hdf5File,
    Message,
)
from weights_tools.containers.hdf5_messages import (
    RunLayout,
    parse_dataspace,
    parse_dtype,
    parse_filters,
    parse_layout,
    parse_text_attribute,
)
from weights_tools.containers.mapped_file import (
    Extent,
    MappedFile,
    MappedTensors,
    StoredTensor,
)
from weights_tools.containers.tensor_names import SEPARATOR, NameCollector
from weights_tools.containers.tensor_spec import TensorSpec, checked_spec

# Keras stores bfloat16 as two bytes without a meaning, and this attribute beside them.
DTYPE_ATTRIBUTE = ("dtype", "bfloat16")


def is_hdf5(start: bytes) -> bool:
    """Whether a file that starts so is meant as HDF5.

    Args:
        start: its first bytes, at least eight.

    Example:
    ```python
    is_hdf5(SIGNATURE)  # True
    ```
    """
    return start[: len(SIGNATURE)] == SIGNATURE


def open_hdf5(file: MappedFile) -> Hdf5Tensors:
    """Open an HDF5 file; only its structure is read, and nothing outside it.

    Args:
        file: the mapped file.

    Raises:
        ContainerError: if it is damaged, leads to other files, or has datasets that
            are no tensors.
    """
    walk = _Walk(file)
    root = walk.guarded((), walk.hdf5.root)
    walk.visit(root, ())
    return Hdf5Tensors(file, walk.tensors, walk.chunked, walk.metadata)


class Hdf5Tensors(MappedTensors):
    """Tensors of an HDF5 file: views, but for those that are cut into chunks.

    Args:
        file: the mapped file.
        tensors: where each lies, in the order of the file.
        chunked: those of them that have to be put together.
        metadata: texts that the file says of itself.
    """

    def __init__(
        self,
        file: MappedFile,
        tensors: dict[str, StoredTensor],
        chunked: dict[str, ChunkedTensor],
        metadata: dict[str, str],
    ):
        super().__init__(file, tensors, metadata)
        self._file = file
        self._chunked = chunked

    def _read(self, name: str) -> np.ndarray:
        if name not in self._chunked:
            return super()._read(name)
        try:
            values = read_chunked(self._file, self._chunked[name])
        except Hdf5Error as error:
            raise ContainerError(self.path, str(error), tensor=name) from error
        values.flags.writeable = False
        return values


class _Walk:
    """Goes through the groups of a file once and notes its datasets."""

    def __init__(self, file: MappedFile):
        self.hdf5 = Hdf5File(file)
        self.path = file.path
        self.names = NameCollector(file.path, file.size)
        self.tensors: dict[str, StoredTensor] = {}
        self.chunked: dict[str, ChunkedTensor] = {}
        self.metadata: dict[str, str] = {}
        self.visited: set[int] = set()

    def guarded(self, path: tuple[str, ...], read, *arguments):
        """Call `read`, its error with the name of the object."""
        try:
            return read(*arguments)
        except Hdf5Error as error:
            name = SEPARATOR.join(path) or None
            raise ContainerError(self.path, str(error), tensor=name) from error

    def visit(self, address: int, path: tuple[str, ...]) -> None:
        self.names.check_depth(path)
        if address in self.visited:
            raise ContainerError(
                self.path, "is another name of an object", SEPARATOR.join(path)
            )
        self.visited.add(address)
        messages = self.guarded(path, self.hdf5.messages, address)
        kinds = {message.kind: message for message in messages}
        if SYMBOL_TABLE in kinds:
            table = kinds[SYMBOL_TABLE].body
            links = self.guarded(path, lambda: list(self.hdf5.links(table)))
            if not path:
                self.metadata = self.guarded(path, self.texts, messages)
            for name, member in links:
                self.visit(member, (*path, name))
        elif LAYOUT in kinds and path:
            self.guarded(path, self.dataset, path, messages, kinds)
        else:
            reason = "is a dtype, not a dataset" if DATATYPE in kinds else NEWER
            raise ContainerError(self.path, reason, SEPARATOR.join(path) or None)

    def texts(self, messages: list[Message]) -> dict[str, str]:
        found = (
            parse_text_attribute(self.hdf5, message.body)
            for message in messages
            if message.kind == ATTRIBUTE
        )
        return dict(text for text in found if text)

    def dataset(self, path: tuple[str, ...], messages, kinds) -> None:
        name = self.names.joined(path[:-1], path[-1])
        if DATASPACE not in kinds or DATATYPE not in kinds:
            raise Hdf5Error("is damaged: it has no shape or no dtype")
        if EXTERNAL_FILES in kinds:
            raise Hdf5Error("has its data in other files, which are not read")
        spec = self.spec(messages, kinds)
        itemsize = spec.numpy_dtype.itemsize
        layout = parse_layout(kinds[LAYOUT].body, kinds[LAYOUT].offset, itemsize)
        if isinstance(layout, RunLayout):
            self.tensors[name] = self.run(spec, layout)
            return
        self.tensors[name] = StoredTensor(spec, ())
        if spec.nbytes:
            filters = (
                parse_filters(kinds[FILTERS].body, itemsize) if FILTERS in kinds else []
            )
            self.chunked[name] = list_chunks(self.hdf5, spec, layout, filters)

    def spec(self, messages: list[Message], kinds) -> TensorSpec:
        dtype = parse_dtype(kinds[DATATYPE].body)
        if dtype == "opaque" and DTYPE_ATTRIBUTE in self.texts(messages).items():
            dtype = "bfloat16"
        if dtype in ("opaque", "text", "text elsewhere"):
            raise Hdf5Error(f"has a dtype that no weight has: {dtype}")
        try:
            return checked_spec(parse_dataspace(kinds[DATASPACE].body), dtype)
        except ValueError as error:
            raise Hdf5Error(str(error)) from error

    def run(self, spec: TensorSpec, layout: RunLayout) -> StoredTensor:
        if spec.nbytes == 0:
            return StoredTensor(spec, ())
        if layout.offset == UNDEFINED:
            raise Hdf5Error("has no data: nothing was ever written to it")
        if layout.nbytes != spec.nbytes or not self.hdf5.file.holds(*layout):
            raise Hdf5Error(
                f"shape {spec.shape} of {spec.dtype} takes {spec.nbytes} bytes, "
                f"{layout.nbytes} at {layout.offset} do not fit the file"
            )
        return StoredTensor(spec, (Extent(*layout),))
