"""A new HDF5 file with room for its tensors, as h5py and Keras read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from weights_tools.containers.hdf5_format import DTYPE_ATTRIBUTE
from weights_tools.containers.layout_plan import Extents
from weights_tools.containers.mapped_file import Extent
from weights_tools.containers.tensor_names import SEPARATOR, nested
from weights_tools.containers.tensor_spec import TensorSpec

_DTYPES = {"bool", "bfloat16", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
# h5py pads an object's header and cuts its tables in ways of its own.
_STRUCTURE_EACH = 2048


class Hdf5Plan:
    """Groups and datasets of a new file, made before their values are known.

    Args:
        specs: shape and dtype of each tensor by name; slashes make groups.
        metadata: texts that become attributes of the root.

    Raises:
        ValueError: if the format has no such dtype or name.
    """

    def __init__(self, specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]):
        nested(specs)
        for name, spec in specs.items():
            if {"", "."} & set(name.split(SEPARATOR)) or "\0" in name:
                raise ValueError(f"HDF5 has no such name: {name!r}")
            if spec.dtype not in _DTYPES:
                raise ValueError(
                    f"HDF5 holds {sorted(_DTYPES)}. Received: {name!r} {spec.dtype}"
                )
        self._specs = dict(specs)
        self._metadata = dict(metadata)
        self.size = sum(_STRUCTURE_EACH + spec.nbytes for spec in specs.values())

    def begin(self, path: Path) -> Extents:
        import h5py

        try:
            with h5py.File(path, "x") as file:
                file.attrs.update(self._metadata)
                return {
                    name: _create(h5py, file, name, spec)
                    for name, spec in self._specs.items()
                }
        except RuntimeError as error:
            # So h5py tells of a full disk when it closes a file.
            raise OSError(f"{path} could not be written: {error}") from error


def _create(h5py, file, name: str, spec: TensorSpec) -> tuple[Extent, ...]:
    """Create a dataset in one piece, its place fixed and nothing written to it."""
    # Links keep the default encoding, also of names in UTF-8 (h5py reads them as such):
    # to mark one would put its group into a newer form.
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    # The same weights are the same file, whenever they are written.
    creation.set_obj_track_times(False)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    dtype = h5py.h5t.py_create(np.dtype(spec.numpy_dtype), logical=True)
    space = (
        h5py.h5s.create_simple(spec.shape)
        if spec.shape
        else h5py.h5s.create(h5py.h5s.SCALAR)
    )
    dataset = h5py.h5d.create(file.id, name.encode(), dtype, space, creation, links)
    if spec.dtype == DTYPE_ATTRIBUTE[1]:
        h5py.Dataset(dataset).attrs[DTYPE_ATTRIBUTE[0]] = DTYPE_ATTRIBUTE[1]
    if spec.nbytes == 0:
        return ()
    return (Extent(dataset.get_offset(), spec.nbytes),)
