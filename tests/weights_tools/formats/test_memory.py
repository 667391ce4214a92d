"""Reading takes the memory of the tensor that is read, not of the file."""

import tracemalloc
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
import torch

from weights_tools.formats import TensorSpec, create_tensors, open_tensors

MEGABYTE = 2**20
COUNT, EACH = 25, 20 * MEGABYTE
SPECS = {f"n/{index}": TensorSpec((EACH // 4,), "float32") for index in range(COUNT)}


@contextmanager
def memory(path):
    """Gives a function that tells the memory that a file and new arrays take.

    That of the whole process would count what others do in it meanwhile.
    """

    def taken():
        maps = psutil.Process().memory_maps(grouped=True)
        mapped = sum(found.rss for found in maps if found.path == str(path))
        return mapped + tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield taken
    finally:
        tracemalloc.stop()


def write_torch(path):
    # One storage that every tensor looks into: torch itself leaves a hole for it.
    storage = torch.empty(COUNT * EACH // 4)
    views = dict(zip(SPECS, storage.split(EACH // 4), strict=True))
    with torch.serialization.skip_data():
        torch.save(views, path)


def write_planned(format):
    return lambda path: create_tensors(path, SPECS, format)._begin(path)


WRITERS = {c: write_planned(c) for c in ("safetensors", "flax_msgpack", "hdf5")}
WRITERS["torch"] = write_torch


@pytest.fixture(params=list(WRITERS))
def large(request, tmp_path):
    """A sparse file of 500 MB whose tensors are zeros."""
    path = tmp_path / "weights"
    WRITERS[request.param](path)
    assert path.stat().st_size > COUNT * EACH
    return path


def test_reading_one_tensor_of_a_large_file_takes_the_memory_of_one(large):
    with memory(large) as taken, open_tensors(large) as file:
        assert taken() < MEGABYTE
        array = file.read("n/13")
        assert not array.any()
        assert EACH <= taken() < EACH + 10 * MEGABYTE


@pytest.mark.slow
def test_reading_all_tensors_in_turn_takes_the_memory_of_one(large):
    with memory(large) as taken, open_tensors(large) as file:
        for name in file.specs:
            array = file.read(name)
            assert not array.any()
            assert EACH <= taken() < EACH + 10 * MEGABYTE


def test_arrays_read_before_stay_what_they_were(tmp_path):
    path = tmp_path / "model.safetensors"
    specs = {str(index): TensorSpec((5000,), "float32") for index in range(9)}
    with create_tensors(path, specs, "safetensors") as writer:
        for name in specs:
            writer.write(name, np.full(5000, float(name), "float32"))
    with open_tensors(path) as file:
        arrays = {name: file.read(name) for name in specs}
    for name, array in arrays.items():
        assert (array == float(name)).all()
