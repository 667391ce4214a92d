"""HDF5: its structure read by `pyfive`, which is Python alone, and written by `h5py`.

The HDF5 library, on which h5py is built, crashes or never returns on some damaged
files. Here the structure is read within bounds, and data stays where it is in the file.
"""

from __future__ import annotations

import itertools
import math
import struct
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pyfive.dataobjects import DataObjects
from pyfive.h5d import DatasetID
from pyfive.misc_low_level import SuperBlock
from pyfive.p5t import P5EnumType, P5FloatType, P5IntegerType, P5OpaqueType

from weights_tools.formats.tensors import (
    SEPARATOR,
    BoundedReader,
    Extent,
    FormatError,
    MappedFile,
    MappedTensors,
    NameCollector,
    StoredTensor,
    TensorSpec,
    checked_spec,
    nested,
    shortened,
)

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# A hundred times the structure of a file of this family.
_MOST_STRUCTURE = 64 * 2**20
# Kinds of messages in the header of an object.
_DATATYPE, _EXTERNAL, _LAYOUT, _SYMBOLS, _LINK, _LINKS = (
    0x03,
    0x07,
    0x08,
    0x11,
    0x06,
    0x02,
)
_SHARED = 2
_COMPACT, _CONTIGUOUS, _CHUNKED = 0, 1, 2
_DEFLATE, _SHUFFLE = 1, 2
# Weights compress to little less than half; even many zeros need no more than this.
_MOST_COMPRESSED = 100
# Keras stores bfloat16 as two bytes without a meaning, and this attribute beside them.
_BFLOAT16 = {"dtype": "bfloat16"}
# Offset and precision; location and size of exponent and mantissa; and bias.
_FLOATS = {
    (0, 16, 10, 5, 0, 10, 15): "float16",
    (0, 16, 7, 8, 0, 7, 127): "bfloat16",
    (0, 32, 23, 8, 0, 23, 127): "float32",
    (0, 64, 52, 11, 0, 52, 1023): "float64",
}
_WRITTEN = {"bool", "bfloat16", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def is_hdf5(start: bytes) -> bool:
    """Whether a file that starts so is meant as HDF5 (its first eight bytes)."""
    return start[: len(SIGNATURE)] == SIGNATURE


class _Objects(DataObjects):
    """An object of a file, whose attributes take no more memory than the file."""

    def _attr_value(self, ptype, buf, count, offset):
        if count > len(buf):
            raise ValueError(f"an attribute of {count} elements is not there")
        return super()._attr_value(ptype, buf, count, offset)


def open_hdf5(file: MappedFile) -> Hdf5Tensors:
    """Open an HDF5 file; only its structure is read, and nothing outside it."""
    walk = _Walk(file)
    try:
        block = SuperBlock(walk.reader, 0)
        root = block.offset_to_dataobjects
        end = block._contents["end_of_file_address"]
        if end > file.size:
            raise ValueError(f"is truncated: {end} bytes once, {file.size} now")
    except Exception as error:
        raise walk.error((), error) from error
    walk.visit(root, ())
    return Hdf5Tensors(file, walk)


class Hdf5Tensors(MappedTensors):
    """Tensors of an HDF5 file: views, but for those that are cut into chunks."""

    def __init__(self, file: MappedFile, walk: _Walk):
        self._file, self._walk, self._lock = file, walk, threading.Lock()
        super().__init__(file, walk.tensors)
        self.groups = frozenset(walk.groups)
        texts = self.texts("")
        self.metadata = {k: v for k, v in texts.items() if isinstance(v, str)}

    def texts(self, group: str) -> dict[str, str | list[str]]:
        """Attributes of a group (`""` is the root): texts, or lists of texts."""
        if group not in self._walk.groups:
            raise FormatError(self.path, f"has no group {shortened(group)}")
        path = (group,) if group else ()
        try:
            return _texts(self._walk.groups[group])
        except Exception as error:
            raise self._walk.error(path, error) from error

    def _view(self, name: str) -> np.ndarray:
        if self._map is None or name not in self._walk.elsewhere:
            return super()._view(name)
        spec, found = self.specs[name], self._walk.elsewhere[name]
        try:
            if isinstance(found, DatasetID):
                self._check_chunks(found)
                with self._lock:
                    self._walk.reader.left = self._file.size
                    found = found.get_data((), None).tobytes()
            return np.frombuffer(found, spec.numpy_dtype).reshape(spec.shape)
        except Exception as error:
            raise self._walk.error((name,), error) from error

    def _check_chunks(self, dataset: DatasetID) -> None:
        """Check that compressed chunks hold what they shall, and no more."""
        full = math.prod(dataset.chunks) * dataset.dtype.itemsize
        for chunk in dataset.index.values():
            stored = self._file.piece(chunk.byte_offset, chunk.size, "a chunk")
            if dataset.filter_pipeline and any(
                entry["filter_id"] == _DEFLATE for entry in dataset.filter_pipeline
            ):
                stored = zlib.decompressobj().decompress(stored, full + 1)
            if len(stored) != full:
                raise ValueError(f"has a damaged chunk: it does not hold {full} bytes")


class _Walk:
    """Goes through the groups of a file once and notes its datasets."""

    def __init__(self, file: MappedFile):
        self.file = file
        # Each structure has bytes of its own: more than all of them is a loop.
        self.reader = BoundedReader(file, min(8 * file.size, _MOST_STRUCTURE))
        self.names = NameCollector(file)
        self.tensors: dict[str, StoredTensor] = {}
        # Small ones that lie in headers, and those that are cut into chunks.
        self.elsewhere: dict[str, bytes | DatasetID] = {}
        self.groups: dict[str, _Objects] = {}
        self.visited: set[int] = set()

    def error(self, path: tuple[str, ...], error: Exception) -> FormatError:
        if isinstance(error, FormatError):
            return error
        # Damage meets the library in many ways.
        reason = str(error) if type(error) is ValueError else ""
        reason = reason or f"is damaged, or unlike what Keras writes: {error!r:.200}"
        return FormatError(self.file.path, reason, SEPARATOR.join(path) or None)

    def visit(self, address: int, path: tuple[str, ...]) -> None:
        try:
            self.names.check_depth(path)
            if address in self.visited:
                raise ValueError("is another name of an object")
            self.visited.add(address)
            found = _Objects(self.reader, address)
            if found.is_dataset:
                self.dataset(found, path)
                return
            if not any(map(found.find_msg_type, (_SYMBOLS, _LINK, _LINKS))):
                raise ValueError("is neither a group nor a dataset")
            self.groups[SEPARATOR.join(path)] = found
            links = list(found.iter_links())
        except Exception as error:
            raise self.error(path, error) from error
        for name, member in links:
            if isinstance(member, str):
                raise self.error(
                    (*path, name), ValueError("has a soft link, which is not followed")
                )
            self.visit(member, (*path, name))

    def dataset(self, found: _Objects, path: tuple[str, ...]) -> None:
        name = self.names.joined(path)
        if found.find_msg_type(_EXTERNAL):
            raise ValueError("has its data in other files, which are not read")
        if found.shape is None:
            raise ValueError("has no shape")
        spec = checked_spec(found.shape, _dtype(found))
        _, layout, at = found.get_id_storage_params()
        self.tensors[name] = StoredTensor(spec, ())
        if spec.nbytes == 0:
            return
        if layout == _COMPACT:
            (nbytes,) = struct.unpack_from("<H", found.msg_data, at)
            self.elsewhere[name] = bytes(found.msg_data[at + 2 : at + 2 + nbytes])
            if len(self.elsewhere[name]) != spec.nbytes:
                raise ValueError(f"{nbytes} bytes are not of shape {spec.shape}")
        elif layout == _CONTIGUOUS:
            extent = Extent(*struct.unpack_from("<2Q", found.msg_data, at))
            if extent.offset == 2**64 - 1:
                raise ValueError("has no data: nothing was ever written to it")
            if extent.nbytes != spec.nbytes or not self.file.holds(*extent):
                raise ValueError(
                    f"shape {spec.shape} of {spec.dtype} takes {spec.nbytes} bytes, "
                    f"{extent.nbytes} at {extent.offset} do not fit the file"
                )
            self.tensors[name] = StoredTensor(spec, (extent,))
        elif layout == _CHUNKED:
            self.elsewhere[name] = self.chunks(found, spec)
        else:
            raise ValueError("has its data in other files, which are not read")

    def chunks(self, found: _Objects, spec: TensorSpec) -> DatasetID:
        """Check the chunks of a dataset, so that it takes no more than its size."""
        filters = [entry["filter_id"] for entry in found.filter_pipeline or []]
        if set(filters) - {_DEFLATE, _SHUFFLE}:
            raise ValueError(f"went through other filters than gzip: {filters}")
        dataset = DatasetID(found)
        chunks = list((dataset.index or {}).values())
        shape = dataset.chunks
        counts = [-(-n // c) for n, c in zip(spec.shape, shape, strict=True)]
        steps = (range(0, c * n, c) for c, n in zip(shape, counts, strict=True))
        # The number first: a list of what is expected could be without end.
        if math.prod(counts) != len(chunks) or any(
            place not in dataset.index for place in itertools.product(*steps)
        ):
            raise ValueError(f"has {len(chunks)} of {math.prod(counts)} chunks")
        # Or a single small chunk could stand for any number of large ones.
        if sum(chunk.size for chunk in chunks) > self.file.size:
            raise ValueError("is damaged: its chunks overlap")
        full = math.prod(shape) * spec.numpy_dtype.itemsize
        most = _MOST_COMPRESSED if _DEFLATE in filters else 1
        for chunk in chunks:
            if chunk.size * most < full or chunk.filter_mask:
                raise ValueError(f"has a chunk of {chunk.size} bytes, not {full}")
        return dataset


def _dtype(found: _Objects) -> str:
    """Name of a dataset's dtype."""
    message = found.find_msg_type(_DATATYPE)[0]
    if message["flags"] & _SHARED:
        raise ValueError("has a dtype that is defined elsewhere")
    ptype = found.ptype
    kind = type(ptype).__name__.removeprefix("P5")
    if isinstance(ptype, P5FloatType):
        form = struct.unpack_from(
            "<2H4BI", found.msg_data, message["offset_to_message"] + 8
        )
        if ptype.dtype.str[0] != ">" and form in _FLOATS:
            return _FLOATS[form]
    elif isinstance(ptype, P5IntegerType) and ptype.dtype.str[0] != ">":
        return ptype.dtype.name
    elif isinstance(ptype, P5EnumType):
        if ptype.dtype == "i1" and ptype.mapping == {"FALSE": 0, "TRUE": 1}:
            return "bool"
    elif isinstance(ptype, P5OpaqueType) and ptype.size == 2:
        kind = _texts(found).get("dtype", kind)
        if kind == "bfloat16":
            return kind
    raise ValueError(f"has a dtype that no weight has: {kind}, or big-endian")


def _texts(found: _Objects) -> dict[str, Any]:
    """Attributes of an object that are texts, or lists of texts."""
    texts: dict[str, Any] = {}
    for name, value in found.get_attributes().items():
        if isinstance(value, (bytes, str)):
            texts[name] = _text(value)
        elif (
            isinstance(value, np.ndarray)
            and value.ndim == 1
            and value.dtype.kind in "OS"
        ):
            texts[name] = [_text(each) for each in value.tolist()]
    return texts


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.rstrip(b"\0").decode()


def check_hdf5(specs: Mapping[str, TensorSpec]) -> None:
    """Check that an HDF5 file can hold such tensors."""
    nested(specs)
    for name, spec in specs.items():
        if {"", "."} & set(name.split(SEPARATOR)) or "\0" in name:
            raise ValueError(f"HDF5 has no such name: {name!r}")
        if spec.dtype not in _WRITTEN:
            raise ValueError(
                f"HDF5 holds {sorted(_WRITTEN)}. Received: {name!r} {spec.dtype}"
            )


def begin_hdf5(
    path: Path, specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]
) -> dict[str, list[Extent]]:
    """Write an HDF5 file but for the values of its tensors, and tell where they go."""
    import h5py

    try:
        with h5py.File(path, "x") as file:
            file.attrs.update(metadata)
            return {n: _create(h5py, file, n, spec) for n, spec in specs.items()}
    except RuntimeError as error:
        # So h5py tells of a full disk when it closes a file.
        raise OSError(f"{path} could not be written: {error}") from error


def _create(h5py, file, name: str, spec: TensorSpec) -> list[Extent]:
    """Create a dataset in one piece, its place fixed and nothing written to it."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    # The same weights are the same file, whenever they are written.
    creation.set_obj_track_times(False)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    dtype = h5py.h5t.py_create(np.dtype(spec.numpy_dtype), logical=True)
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    if spec.shape:
        space = h5py.h5s.create_simple(spec.shape)
    # Links keep the default encoding, also of names in UTF-8 (h5py reads them as such):
    # to mark one would put its group into a newer form.
    dataset = h5py.h5d.create(file.id, name.encode(), dtype, space, creation, links)
    if spec.dtype == "bfloat16":
        h5py.Dataset(dataset).attrs.update(_BFLOAT16)
    return [Extent(dataset.get_offset(), spec.nbytes)] if spec.nbytes else []
