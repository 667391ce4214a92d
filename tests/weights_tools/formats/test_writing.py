import itertools
import os
import resource
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from weights_tools.formats import (
    TensorSpec,
    create_tensors,
    open_tensors,
)

CONTAINERS = ("safetensors", "flax_msgpack", "hdf5")
COMMON = "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 bfloat16"
COMMON = [*COMMON.split(), "float32", "float64"]
MORE = {
    "safetensors": ["complex64", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"],
    "flax_msgpack": ["complex64", "complex128", "float8_e4m3fn", "float8_e5m2fnuz"],
    "hdf5": [],
}
SPECS = {"a": TensorSpec((2, 3), "float32"), "b/c": TensorSpec((4,), "float16")}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights"


@pytest.fixture(params=CONTAINERS)
def container(request):
    return request.param


def fill(writer, specs=SPECS):
    for name, spec in specs.items():
        writer.write(name, np.zeros(spec.shape, spec.numpy_dtype))


@pytest.mark.parametrize(
    ("container", "dtype"),
    [(c, dtype) for c in CONTAINERS for dtype in COMMON + MORE[c]],
)
def test_every_dtype_and_shape_comes_back_byte_for_byte(path, container, dtype):
    random = np.random.default_rng(0)
    specs = {f"n/{s}": TensorSpec(s, dtype) for s in [(), (3,), (2, 0, 3), (2, 3, 4)]}
    limit = 2 if dtype == "bool" else 256
    arrays = {
        name: random.integers(0, limit, spec.nbytes, "uint8")
        .view(spec.numpy_dtype)
        .reshape(spec.shape)
        for name, spec in specs.items()
    }
    with create_tensors(path, specs, container) as writer:
        for name in reversed(list(arrays)):
            writer.write(name, arrays[name])
    with open_tensors(path) as file:
        assert dict(file.specs) == specs
        for name, array in arrays.items():
            assert file.read(name).tobytes() == array.tobytes()


def test_the_order_of_the_specs_is_that_of_the_file(path):
    names = ["z", "b", "m/x", "a"]
    specs = dict.fromkeys(names, TensorSpec((1,), "int8"))
    for container in ("safetensors", "flax_msgpack"):
        with create_tensors(path, specs, container) as writer:
            fill(writer, specs)
        with open_tensors(path) as file:
            assert list(file.specs) == names


def test_arrays_that_are_not_contiguous_are_written_as_they_read(path, container):
    grid = np.arange(24, dtype="float32").reshape(2, 3, 4)
    arrays = {
        "transposed": grid.T,
        "sliced": grid[:, ::2, 1:],
        "reversed": grid[::-1],
        "repeated": np.broadcast_to(grid[0], (5, 3, 4)),
        "swapped": grid.astype(">f4"),
    }
    specs = {name: TensorSpec(a.shape, "float32") for name, a in arrays.items()}
    with create_tensors(path, specs, container) as writer:
        for name, array in arrays.items():
            writer.write(name, array)
    with open_tensors(path) as file:
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.read(name), array)


def test_the_safetensors_library_and_torch_read_what_is_written(path):
    import safetensors.torch

    specs = {
        "odd": TensorSpec((3,), "int8"),
        "wide": TensorSpec((2,), "int64"),
        "half": TensorSpec((2, 2), "bfloat16"),
    }
    with create_tensors(path, specs, "safetensors", {"format": "pt"}) as writer:
        for name, spec in specs.items():
            writer.write(name, np.ones(spec.shape, spec.numpy_dtype))
    tensors = safetensors.torch.load_file(path)
    assert {name: tuple(t.shape) for name, t in tensors.items()} == {
        name: spec.shape for name, spec in specs.items()
    }
    with open_tensors(path) as file:
        assert file.metadata == {"format": "pt"}
        assert all(file.read(name).flags.aligned for name in specs)


def test_the_file_appears_when_all_is_written_and_replaces_the_old_one(path, container):
    path.write_text("old")
    with create_tensors(path, SPECS, container) as writer:
        fill(writer)
        assert path.read_text() == "old"
    with open_tensors(path) as file:
        assert set(file.specs) == set(SPECS)
    assert os.listdir(path.parent) == [path.name]


def test_a_tensor_left_out_is_named_and_nothing_appears(path, container):
    with (
        pytest.raises(ValueError, match="1 tensors of .* were not written: b/c"),
        create_tensors(path, SPECS, container) as writer,
    ):
        writer.write("a", np.zeros((2, 3), "float32"))
    assert os.listdir(path.parent) == []


def test_an_error_in_the_block_leaves_nothing_behind(path, container):
    path.write_text("old")
    with (
        pytest.raises(KeyError, match="mine"),
        create_tensors(path, SPECS, container) as writer,
    ):
        fill(writer)
        raise KeyError("mine")
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("a", np.zeros((3, 2), "float32"), r"must be float32 \(2, 3\). Received: .*32"),
        ("a", np.zeros((2, 3), "float64"), r"must be float32 .* Received: float64"),
        ("d", np.zeros(1), "has no tensor 'd'"),
    ],
)
def test_an_array_that_differs_from_its_spec_is_refused(path, name, array, reason):
    with (
        pytest.raises(ValueError, match=reason),
        create_tensors(path, SPECS, "safetensors") as writer,
    ):
        writer.write(name, array)


def test_a_tensor_is_written_only_once(path, container):
    with (
        pytest.raises(ValueError, match="'a' of .* was written before"),
        create_tensors(path, SPECS, container) as writer,
    ):
        fill(writer)
        writer.write("a", np.zeros((2, 3), "float32"))


def test_what_a_container_cannot_hold_is_refused_before_anything_is_written(path):
    spec = TensorSpec((1,), "float32")
    refusals = [
        ("zip", {}, {}, "format must be one of"),
        ("safetensors", {"a": TensorSpec((1,), "complex128")}, {}, "safetensors holds"),
        ("safetensors", {"__metadata__": spec}, {}, "keeps the name '__metadata__'"),
        ("safetensors", {"a": TensorSpec((-1,), "float32")}, {}, "integers from 0"),
        ("safetensors", {"a": TensorSpec((1,), "object")}, {}, "dtype must be one of"),
        ("flax_msgpack", {"a": spec}, {"format": "pt"}, "holds no metadata"),
        ("flax_msgpack", {"k" * 2000: spec}, {}, "a key of up to 1024 bytes"),
        ("hdf5", {"a": TensorSpec((1,), "float8_e5m2")}, {}, "HDF5 holds"),
        ("hdf5", {"a//b": spec}, {}, "HDF5 has no such name: 'a//b'"),
        ("hdf5", {"/a": spec}, {}, "HDF5 has no such name"),
        ("hdf5", {"a/./b": spec}, {}, "HDF5 has no such name"),
    ]
    for container in ("flax_msgpack", "hdf5"):
        for names in itertools.permutations(("a", "a/b")):
            specs = dict.fromkeys(names, spec)
            refusals.append((container, specs, {}, "begins that of another"))
    for container, specs, metadata, reason in refusals:
        with pytest.raises(ValueError, match=reason):
            create_tensors(path, specs, container, metadata)
    assert os.listdir(path.parent) == []


def test_a_place_that_cannot_be_written_to_is_named_first(tmp_path, container):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        create_tensors(tmp_path / "no" / "weights", SPECS, container)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        create_tensors(tmp_path, SPECS, container)


def test_a_file_larger_than_the_disk_is_refused_before_anything_is_written(
    path, container
):
    specs = {f"{i}": TensorSpec((2**28,), "float32") for i in range(2**14)}
    with pytest.raises(OSError, match="1759218.* bytes are needed, .* are free"):
        create_tensors(path, specs, container)
    assert os.listdir(path.parent) == []


@pytest.fixture
def full_disk():
    """Lets no file of this process grow beyond 64 kilobytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("begun", [True, False])
def test_a_full_disk_leaves_nothing_behind(path, container, full_disk, begun):
    specs = {"a": TensorSpec((2**20,), "float32")}
    with pytest.raises(OSError):
        if not begun:
            full_disk()
        with create_tensors(path, specs, container) as writer:
            full_disk()
            fill(writer, specs)
    assert os.listdir(path.parent) == []


def test_a_process_killed_half_way_leaves_no_file(path):
    code = f"""
    import os, signal
    import numpy as np
    from weights_tools.formats import TensorSpec, create_tensors

    spec = TensorSpec((1000,), "float32")
    writers = []
    for container in {CONTAINERS!r}:
        path = {str(path)!r} + container
        writers.append(create_tensors(path, {{"a": spec, "b": spec}}, container))
        writers[-1].__enter__().write("a", np.ones(1000, "float32"))
    os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        # The backend that starts in half of the time.
        env={**os.environ, "KERAS_BACKEND": "jax"},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    left = os.listdir(path.parent)
    assert len(left) == len(CONTAINERS)
    assert all(name.endswith(".part") for name in left)
