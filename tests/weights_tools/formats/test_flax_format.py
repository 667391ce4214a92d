import re

import ml_dtypes
import msgpack
import numpy as np
import pytest
from flax import serialization

from weights_tools.formats import (
    FormatError,
    TensorSpec,
    create_tensors,
    open_tensors,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "diffusion_flax_model.msgpack"


def array(shape=(2,), dtype="float32", data=b"\0" * 8, code=1):
    return msgpack.ExtType(code, msgpack.packb((shape, dtype, data)))


def refused(path, content):
    path.write_bytes(content if isinstance(content, bytes) else msgpack.packb(content))
    with pytest.raises(FormatError, match=re.escape(str(path))) as error:
        open_tensors(path)
    return str(error.value).removeprefix(f"{path}: ")


def test_arrays_are_views_and_numpy_scalars_are_tensors_too(path):
    tree = {"conv": {"kernel": np.ones((2, 3), ml_dtypes.bfloat16)}, "n": np.float32(3)}
    path.write_bytes(serialization.msgpack_serialize(tree))
    with open_tensors(path) as file:
        assert dict(file.specs) == {
            "conv/kernel": TensorSpec((2, 3), "bfloat16"),
            "n": TensorSpec((), "float32"),
        }
        assert file.read("n") == 3
        assert file.read("conv/kernel").base is not None


def test_entries_that_are_no_arrays_are_left_out(path):
    tree = {"step": 3, "rate": 0.5, "name": "x", "none": None, "z": 1j, "b": b"raw"}
    path.write_bytes(serialization.msgpack_serialize({**tree, "a": np.ones(2)}))
    with open_tensors(path) as file:
        assert list(file.specs) == ["a"]


@pytest.mark.parametrize("size", [15, 16, 65536])
def test_maps_arrays_and_names_of_every_length_are_read(path, size):
    tree = {f"{index:040}": np.zeros((), "uint8") for index in range(size)}
    tree["n" * 300] = np.arange(size, dtype="uint8")
    path.write_bytes(serialization.msgpack_serialize(tree))
    with open_tensors(path) as file:
        assert list(file.specs) == list(tree)
        np.testing.assert_array_equal(file.read("n" * 300), tree["n" * 300])


def test_flax_reads_what_is_written_here(path):
    arrays = {
        "a/b/kernel": np.arange(6, dtype="float32").reshape(2, 3),
        "a/bias": np.ones(2, ml_dtypes.bfloat16),
        "byte": np.array(3, "uint8"),
        "long" * 100: np.arange(3, dtype="int16"),
    }
    arrays |= {f"n/{index}": np.full(index, 1, "int8") for index in range(9)}
    specs = {name: TensorSpec(a.shape, a.dtype.name) for name, a in arrays.items()}
    with create_tensors(path, specs, "flax_msgpack") as writer:
        for name, value in arrays.items():
            writer.write(name, value)
    tree = serialization.msgpack_restore(path.read_bytes())
    np.testing.assert_array_equal(tree["a"]["b"]["kernel"], arrays["a/b/kernel"])
    assert tree["a"]["bias"].dtype == ml_dtypes.bfloat16
    # Flax itself would write the very same bytes.
    assert serialization.msgpack_serialize(tree) == path.read_bytes()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (array(shape=(3,)), "takes 12 bytes, 8 are there"),
        (array(shape=(-2,)), "shape must be integers from 0"),
        (array(shape=(2**40, 2**40)), "beyond what an array can have"),
        (array(shape=(1,) * 65), "shape must be a list of at most 64"),
        (array(shape=("2",)), "shape must be integers"),
        (array(shape=2), "shape must be a list"),
        (array(dtype="object"), "dtype must be one of"),
        (array(dtype="O" * 10_000), "expected shape, dtype and bytes"),
        (array(dtype=b"float32"), "dtype must be one of"),
        (array(data="text"), "expected shape, dtype and bytes"),
        (msgpack.ExtType(1, msgpack.packb([1])), "expected shape, dtype and bytes"),
        (msgpack.ExtType(9, b"x"), "unknown extension type 9"),
    ],
)
def test_a_wrong_array_is_refused_with_its_name_and_the_reason(path, entry, reason):
    text = refused(path, {"conv": {"bias": entry}})
    assert text.startswith("tensor 'conv/bias': ")
    assert reason in text


DEEP = b"\x81\xa1a" * 100_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (msgpack.packb({"a": array()})[:-1], "is truncated or damaged"),
        (msgpack.packb({"a": array()}) + b"\0", "1 bytes follow the map"),
        (msgpack.packb([array()]), "is not a msgpack map"),
        (msgpack.packb({1: array()}), "a key is no text"),
        (msgpack.packb({"k" * 2000: array()}), "a key is no text of up to 1024 bytes"),
        (b"\x81\xa1\xff\xc0", "is truncated or damaged"),
        (b"\x81\xa1a\xc1", "is truncated or damaged at byte 3"),
        (b"\x81\xa1a\xdf\xff\xff\xff\xff\xa1a", ""),
        (b"\x81\xa1a\xc9\xff\xff\xff\xff\x01a", ""),
        (b"\x81\xa1a\xd8", ""),
        (b"\x82" + msgpack.packb({"a": array()})[1:] * 2, "'a': stands there twice"),
        (DEEP, "groups nest deeper than 64"),
        (b"\xdf\0\x20\0\0\xa1a" + b"\xc0" * 2**21, "more than 1000000 entries"),
    ],
)
def test_wrong_msgpack_is_refused_with_the_reason(path, content, reason):
    assert reason in refused(path, content)


def test_names_cannot_grow_beyond_the_file(path):
    # Each of these arrays would repeat the kilobyte of its groups' names.
    tree = {"leaf": {f"{index:05}": array((), "uint8", b"0") for index in range(6000)}}
    for _ in range(5):
        tree = {"g" * 1000: tree}
    assert "names are longer than the file" in refused(path, tree)


def test_an_array_that_flax_would_cut_is_refused(path):
    specs = {"a/kernel": TensorSpec((2**30 + 1,), "int8")}
    with pytest.raises(ValueError, match=r"1073741824 bytes.*'a/kernel' of 1073741825"):
        create_tensors(path, specs, "flax_msgpack")


def test_the_pieces_of_an_array_that_flax_cut_are_no_tensor_of_its_name(path):
    pieces = {"shape": {"0": 2}, "chunks": {"0": array()}}
    tree = {"kernel": {"__msgpack_chunked_array__": True, **pieces}}
    path.write_bytes(msgpack.packb(tree))
    with open_tensors(path) as file:
        assert list(file.specs) == ["kernel/chunks/0"]
