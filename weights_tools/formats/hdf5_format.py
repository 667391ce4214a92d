"""HDF5: its structure read by `pyfive`, which is Python alone, and written by `h5py`.

The HDF5 library, on which h5py is built, crashes or never returns on some damaged
files. Here the structure is read within bounds, and data stays where it is in the file.
"""

import struct
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from pyfive.dataobjects import DataObjects
from pyfive.misc_low_level import SuperBlock
from pyfive.p5t import P5EnumType, P5FloatType, P5IntegerType, P5OpaqueType

from weights_tools.formats import tensors

# A hundred times the structure of a file of this family.
_MOST_STRUCTURE = 64 * 2**20
# Kinds of messages in the header of an object.
_LINKS, _DATATYPE, _LINK, _EXTERNAL, _SYMBOLS = 0x02, 0x03, 0x06, 0x07, 0x11
_SHARED = 2
_CONTIGUOUS = 1
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


class _Objects(DataObjects):
    """An object of a file, whose attributes take no more memory than the file."""

    def _attr_value(self, ptype, buf, count, offset):
        if count > len(buf):
            raise ValueError(f"an attribute of {count} elements is not there")
        return super()._attr_value(ptype, buf, count, offset)


class Hdf5Tensors(tensors.TensorFile):
    """Tensors of an HDF5 file; `groups` are objects by name."""

    def __init__(self, file: tensors.MappedFile):
        self.groups: dict[str, _Objects] = {}
        self._file, self._names = file, tensors.NameCollector(file)
        # Each structure has bytes of its own: more than all of them is a loop.
        self._reader = tensors.BoundedReader(file, min(8 * file.size, _MOST_STRUCTURE))
        self._visited: set[int] = set()
        self._stored: dict[str, tensors.StoredTensor] = {}
        with self._reading():
            block = SuperBlock(self._reader, 0)
            end = block._contents["end_of_file_address"]
            if end > file.size:
                raise ValueError(f"is truncated: {end} bytes once, {file.size} now")
            self._visit(block.offset_to_dataobjects, ())
        specs = {name: stored.spec for name, stored in self._stored.items()}
        super().__init__(file.path, specs, lambda name: file.view(self._stored[name]))
        texts = self.texts("")
        self.metadata = {k: v for k, v in texts.items() if isinstance(v, str)}

    def texts(self, group: str) -> dict[str, str | list[str]]:
        """Attributes of a group (`""` is the root): texts, or lists of texts."""
        if group not in self.groups:
            raise self.error(f"has no group {tensors.shortened(group)}")
        with self._reading(group):
            return _texts(self.groups[group])

    def _reading(self, *path: str) -> AbstractContextManager[None]:
        # Damage meets the library in many ways.
        reason = "is damaged, or unlike what Keras writes"
        return tensors.reading(
            self._file.path, tensors.SEPARATOR.join(path) or None, reason
        )

    def _visit(self, address: int, path: tuple[str, ...]) -> None:
        with self._reading(*path):
            self._names.check_depth(path)
            if address in self._visited:
                raise ValueError("is another name of an object")
            self._visited.add(address)
            found = _Objects(self._reader, address)
            if found.is_dataset:
                self._note(found, self._names.joined(path))
                return
            if not any(map(found.find_msg_type, (_SYMBOLS, _LINK, _LINKS))):
                raise ValueError("is neither a group nor a dataset")
            self.groups[tensors.SEPARATOR.join(path)] = found
            for name, member in list(found.iter_links()):
                with self._reading(*path, name):
                    if isinstance(member, str):
                        raise ValueError("has a soft link, which is not followed")
                    self._visit(member, (*path, name))

    def _note(self, found: _Objects, name: str) -> None:
        """Note a dataset, and where its array lies."""
        if found.find_msg_type(_EXTERNAL):
            raise ValueError("has its data in other files, which are not read")
        if found.shape is None:
            raise ValueError("has no shape")
        spec = tensors.checked_spec(found.shape, _dtype(found))
        _, layout, at = found.get_id_storage_params()
        if layout != _CONTIGUOUS:
            raise ValueError(
                "must lie in one piece, as Keras writes it, and not in chunks (as what "
                "is compressed does), within a header, or in other files"
            )
        extent = tensors.Extent(*struct.unpack_from("<2Q", found.msg_data, at))
        if spec.nbytes and extent.offset == 2**64 - 1:
            raise ValueError("has no data: nothing was ever written to it")
        is_there = not spec.nbytes or self._file.holds(*extent)
        if extent.nbytes != spec.nbytes or not is_there:
            raise ValueError(
                f"shape {spec.shape} of {spec.dtype} takes {spec.nbytes} bytes, "
                f"{extent.nbytes} at {extent.offset} do not fit the file"
            )
        self._stored[name] = tensors.StoredTensor(spec, extent)


def _dtype(found: _Objects) -> str:
    """Name of a dataset's dtype."""
    message = found.find_msg_type(_DATATYPE)[0]
    if message["flags"] & _SHARED:
        raise ValueError("has a dtype that is defined elsewhere")
    ptype = found.ptype
    kind = type(ptype).__name__.removeprefix("P5")
    if isinstance(ptype, P5FloatType):
        at = message["offset_to_message"] + 8
        form = struct.unpack_from("<2H4BI", found.msg_data, at)
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


def check_hdf5(specs: Mapping[str, tensors.TensorSpec]) -> None:
    """Check that an HDF5 file can hold such tensors."""
    tensors.nested(specs)
    for name, spec in specs.items():
        if {"", "."} & set(name.split(tensors.SEPARATOR)) or "\0" in name:
            raise ValueError(f"HDF5 has no such name: {name!r}")
        if spec.dtype not in _WRITTEN:
            expected = f"HDF5 holds {sorted(_WRITTEN)}"
            raise ValueError(f"{expected}. Received: {name!r} {spec.dtype}")


def begin_hdf5(
    path: Path, specs: Mapping[str, tensors.TensorSpec], metadata: Mapping[str, str]
) -> dict[str, int]:
    """Write an HDF5 file but for the values of its tensors, and tell where they go."""
    import h5py

    # Each dataset gets its place at once, and nothing is written to it.
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    offsets = {}
    try:
        with h5py.File(path, "x") as file:
            file.attrs.update(metadata)
            for name, spec in specs.items():
                dataset = file.create_dataset(
                    name, spec.shape, spec.numpy_dtype, dcpl=creation, fill_time="never"
                )
                if not spec.shape:
                    # h5py gives a scalar its place when something is written to it.
                    dataset[()] = np.zeros((), spec.numpy_dtype)
                if spec.dtype == "bfloat16":
                    # As Keras does: two bytes without a meaning, and this beside them.
                    dataset.attrs["dtype"] = spec.dtype
                offsets[name] = dataset.id.get_offset()
    except RuntimeError as error:
        # So h5py tells of a full disk when it closes a file.
        raise OSError(f"{path} could not be written: {error}") from error
    return offsets
