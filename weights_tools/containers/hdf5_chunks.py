"""Datasets of HDF5 that are cut into chunks, often compressed."""

from __future__ import annotations

import itertools
import math
import zlib
from typing import NamedTuple

import numpy as np

from weights_tools.containers.hdf5_file import UNDEFINED, Hdf5Error, Hdf5File
from weights_tools.containers.hdf5_messages import DEFLATE, SHUFFLE, ChunkLayout
from weights_tools.containers.mapped_file import MappedFile
from weights_tools.containers.tensor_spec import TensorSpec

# Weights compress to little less than half; even many zeros need no more than this.
_MOST_COMPRESSED = 100


class Chunk(NamedTuple):
    """A stored chunk.

    Args:
        start: index of its first element along each axis.
        offset: where it lies in the file.
        nbytes: how long it is there.
    """

    start: tuple[int, ...]
    offset: int
    nbytes: int


class ChunkedTensor(NamedTuple):
    """A tensor that has to be put together.

    Args:
        spec: its shape and dtype.
        chunk_shape: shape of each chunk; those at the end reach beyond the tensor.
        chunks: all of them.
        filters: what each went through before it was stored.
    """

    spec: TensorSpec
    chunk_shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]
    filters: tuple[int, ...]


def list_chunks(
    hdf5: Hdf5File, spec: TensorSpec, layout: ChunkLayout, filters: list[int]
) -> ChunkedTensor:
    """Find the chunks of a dataset; none of them is read.

    Args:
        hdf5: the file.
        spec: shape and dtype of the dataset.
        layout: its layout.
        filters: what its chunks went through.

    Raises:
        Hdf5Error: if one is missing or unbelievably well compressed.
    """
    unknown = set(filters) - {DEFLATE, SHUFFLE}
    if unknown:
        raise Hdf5Error(f"went through filters other than gzip and shuffle: {unknown}")
    if len(layout.shape) != len(spec.shape):
        raise Hdf5Error("is damaged: its chunks are not of its rank")
    if layout.tree == UNDEFINED:
        raise Hdf5Error("has no data: nothing was ever written to it")
    full = math.prod(layout.shape) * spec.numpy_dtype.itemsize
    chunks = []
    for nbytes, mask, *start, _, offset in hdf5.leaves(
        layout.tree, 1, f"2L{len(spec.shape)}QQ"
    ):
        chunks.append(Chunk(tuple(start), offset, nbytes))
        most = nbytes * _MOST_COMPRESSED if DEFLATE in filters else nbytes
        if mask or full > most or not hdf5.file.holds(offset, nbytes):
            raise Hdf5Error(
                f"has a chunk of {nbytes} bytes at {offset} that cannot hold the "
                f"{full} bytes of its shape"
            )
    # Or a single small chunk could stand for any number of large ones.
    if sum(chunk.nbytes for chunk in chunks) > hdf5.file.size:
        raise Hdf5Error("is damaged: its chunks overlap")
    _check_complete(spec, layout, chunks)
    return ChunkedTensor(spec, layout.shape, tuple(chunks), tuple(filters))


def _check_complete(spec: TensorSpec, layout: ChunkLayout, chunks: list[Chunk]) -> None:
    counts = [math.ceil(n / c) for n, c in zip(spec.shape, layout.shape, strict=True)]
    # Compared first: a list of what is expected could be without end.
    if math.prod(counts) == len(chunks):
        steps = [range(0, c * n, c) for c, n in zip(layout.shape, counts, strict=True)]
        if {chunk.start for chunk in chunks} == set(itertools.product(*steps)):
            return
    raise Hdf5Error(f"has {len(chunks)} of {math.prod(counts)} chunks, or some twice")


def read_chunked(file: MappedFile, tensor: ChunkedTensor) -> np.ndarray:
    """Put a tensor together.

    Args:
        file: the mapped file.
        tensor: where its chunks lie.

    Raises:
        Hdf5Error: if a chunk is damaged.
    """
    result = np.empty(tensor.spec.shape, tensor.spec.numpy_dtype)
    for chunk in tensor.chunks:
        stored = file.map[chunk.offset : chunk.offset + chunk.nbytes]
        region = tuple(
            slice(at, min(at + size, end))
            for at, size, end in zip(
                chunk.start, tensor.chunk_shape, tensor.spec.shape, strict=True
            )
        )
        values = _unfiltered(stored, tensor)
        within = tuple(slice(0, part.stop - part.start) for part in region)
        result[region] = values[within]
    return result


def _unfiltered(stored: bytes, tensor: ChunkedTensor) -> np.ndarray:
    dtype = tensor.spec.numpy_dtype
    full = math.prod(tensor.chunk_shape) * dtype.itemsize
    for number in reversed(tensor.filters):
        if number == DEFLATE:
            stored = _inflated(stored, full)
        else:
            planes = np.frombuffer(stored, "u1").reshape(dtype.itemsize, -1)
            stored = planes.T.tobytes()
    if len(stored) != full:
        raise Hdf5Error(f"has a chunk of {len(stored)} bytes, expected {full}")
    return np.frombuffer(stored, dtype).reshape(tensor.chunk_shape)


def _inflated(stored: bytes, full: int) -> bytes:
    inflate = zlib.decompressobj()
    try:
        # Never more than the shape tells and a byte, whatever is in there; with that
        # byte to spare it goes on to the end, where the checksum stands.
        values = inflate.decompress(stored, full + 1)
    except zlib.error as error:
        raise Hdf5Error(f"has a damaged chunk: {error}") from error
    if len(values) != full or not inflate.eof:
        raise Hdf5Error(f"has a damaged chunk: it does not hold {full} bytes")
    return values
