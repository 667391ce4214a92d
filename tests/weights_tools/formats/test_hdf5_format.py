import h5py
import keras
import ml_dtypes
import numpy as np
import pytest

from weights_tools.formats import (
    FormatError,
    TensorSpec,
    create_tensors,
    open_tensors,
)

GRID = np.arange(30, dtype="float32").reshape(5, 6)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.weights.h5"


@pytest.fixture
def new(path):
    """An HDF5 file to fill, closed before it is read."""
    with h5py.File(path, "w") as file:
        yield file


def refused(path):
    with pytest.raises(FormatError) as error:
        open_tensors(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def small_model(dtype="float32"):
    layers = [
        keras.layers.Input((8, 8, 3)),
        keras.layers.Conv2D(4, 3, name="conv"),
        keras.layers.GroupNormalization(2, name="norm"),
        keras.layers.Flatten(),
        keras.layers.Dense(2, name="dense"),
    ]
    model = keras.Sequential(layers, name="small")
    if dtype != "float32":
        for layer in model.layers:
            for variable in layer.weights:
                variable._dtype = dtype
                variable._value.data = variable._value.data.bfloat16()
    return model


DTYPES = ["bool", *(f"{sign}int{n}" for sign in ("", "u") for n in (8, 16, 32, 64))]


@pytest.mark.parametrize("dtype", [*DTYPES, "float16", "float32", "float64"])
def test_every_dtype_is_read_as_h5py_wrote_it(path, new, dtype):
    array = np.arange(-3, 3).astype(dtype).reshape(2, 3)
    new["a/b"] = array
    new.close()
    with open_tensors(path) as file:
        assert dict(file.specs) == {"a/b": TensorSpec((2, 3), dtype)}
        assert file.read("a/b").tobytes() == array.tobytes()
        assert not file.read("a/b").flags.owndata


def test_the_numbers_of_bfloat16_are_read_where_hdf5_has_them(path, new):
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_ebias(127)
    space = h5py.h5s.create_simple((3,))
    dataset = h5py.h5d.create(new.id, b"a", kind, space)
    array = np.array([1, 2, 3], ml_dtypes.bfloat16)
    dataset.write(space, space, array.view("uint16"), mtype=kind)
    new.close()
    with open_tensors(path) as file:
        np.testing.assert_array_equal(file.read("a"), array)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_saved_by_keras_are_named_by_their_paths(path, dtype):
    model = small_model(dtype)
    model.save_weights(path)
    with open_tensors(path) as file, h5py.File(path) as reference:
        assert set(file.specs) == paths_of(reference)
        kernel = file.read("layers/conv2d/vars/0")
        assert kernel.dtype.name == dtype
        value = keras.ops.cast(model.layers[0].kernel, "float32")
        value = keras.ops.convert_to_numpy(value)
        np.testing.assert_array_equal(kernel.astype("float32"), value)


def paths_of(file):
    found = set()
    file.visititems(
        lambda name, item: found.add(name) if isinstance(item, h5py.Dataset) else None
    )
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_keras_loads_what_is_written_here(path, tmp_path, dtype):
    model = small_model(dtype)
    model.save_weights(path)
    copy = tmp_path / "copy.weights.h5"
    with (
        open_tensors(path) as file,
        create_tensors(copy, file.specs, "hdf5", {"made": "here"}) as writer,
    ):
        for name, spec in file.specs.items():
            writer.write(name, file.read(name) + np.ones((), spec.numpy_dtype))
    other = small_model(dtype)
    other.load_weights(copy)
    for before, after in zip(model.weights, other.weights, strict=True):
        difference = keras.ops.cast(after, "float32") - keras.ops.cast(
            before, "float32"
        )
        np.testing.assert_allclose(keras.ops.convert_to_numpy(difference), 1, atol=0.02)


def test_a_whole_model_in_the_old_format_of_keras_is_read(path, tmp_path):
    model = small_model()
    old = tmp_path / "old.h5"
    model.save(old)
    with open_tensors(old) as file, h5py.File(old) as reference:
        assert file.metadata["backend"] == keras.config.backend()
        assert '"class_name": "Sequential"' in file.metadata["model_config"]
        assert set(file.specs) == paths_of(reference)
        for name in file.specs:
            np.testing.assert_array_equal(file.read(name), reference[name])


def test_h5py_reads_the_names_and_texts_that_are_written_here(path):
    names = {"a/b/kernel:0": TensorSpec((), "float32"), "é/1": TensorSpec((0,), "int8")}
    with create_tensors(path, names, "hdf5", {"note": "größer"}) as writer:
        writer.write("a/b/kernel:0", np.array(2, "float32"))
        writer.write("é/1", np.zeros(0, "int8"))
    with h5py.File(path) as file:
        assert file["a/b/kernel:0"][()] == 2
        assert file["é/1"].shape == (0,)
        assert file.attrs["note"] == "größer"
    with open_tensors(path) as file:
        assert dict(file.specs) == names
        assert file.metadata == {"note": "größer"}


def test_a_thousand_small_datasets_are_read(path, new):
    for index in range(1000):
        name = f"layers/block_{index % 10}/part_{index}/vars/0"
        new[name] = np.full(2, index % 256, ml_dtypes.bfloat16)
        new[name].attrs["dtype"] = "bfloat16"
    new.close()
    with open_tensors(path) as file:
        assert len(file.specs) == 1000
        assert file.read("layers/block_7/part_77/vars/0").tolist() == [77, 77]


def compact(file, name, array):
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.COMPACT)
    file.create_dataset(name, data=array, dcpl=creation)


REFUSALS = {
    "has a soft link": lambda f, p: f.__setitem__("a", h5py.SoftLink("/etc")),
    "is damaged, or unlike what Keras writes": lambda f, p: f.__setitem__(
        "a", h5py.ExternalLink("other.h5", "/b")
    ),
    "has its data in other files": lambda f, p: f.create_dataset(
        "a", (2,), "f4", external=[(str(p.with_name("secret")), 0, 8)]
    ),
    "has a dtype that no weight has: VlenString": lambda f, p: f.create_dataset(
        "a", data=["x"], dtype=h5py.string_dtype()
    ),
    "has a dtype that no weight has: FixedString": lambda f, p: f.create_dataset(
        "a", data=np.array([b"x"])
    ),
    "has a dtype that no weight has: Opaque": lambda f, p: f.create_dataset(
        "a", data=np.zeros(2, ml_dtypes.bfloat16)
    ),
    "Reference": lambda f, p: f.create_dataset("a", (2,), h5py.ref_dtype),
    "Compound": lambda f, p: f.create_dataset("a", data=np.zeros(2, "c8")),
    "or big-endian": lambda f, p: f.create_dataset("a", data=np.zeros(2, ">f4")),
    "Sequence": lambda f, p: f.create_dataset(
        "a", (1,), h5py.vlen_dtype(np.dtype("f4"))
    ),
    "has a dtype that is defined elsewhere": lambda f, p: (
        f.__setitem__("a", np.dtype("f4")),
        f.create_dataset("b", (2,), f["a"]),
        f.__delitem__("a"),
    ),
    "is neither a group nor a dataset": lambda f, p: f.__setitem__("a", np.dtype("f4")),
    "has no data: nothing was ever written": lambda f, p: f.create_dataset(
        "a", (2,), "f4"
    ),
    "'b': must lie in one piece": lambda f, p: f.create_dataset(
        "b", data=GRID, chunks=(2, 4), compression="gzip"
    ),
    "'c': must lie in one piece": lambda f, p: compact(f, "c", np.ones(3)),
    "is another name of an object": lambda f, p: (
        f.__setitem__("a", [1.0]),
        f.__setitem__("b", f["a"]),
    ),
    "has no shape": lambda f, p: f.create_dataset("a", data=h5py.Empty("f4")),
    "groups nest deeper than 64": lambda f, p: f.create_group("/".join("a" * 100)),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_what_no_weights_need_is_refused_with_the_reason(path, new, reason):
    path.with_name("secret").write_bytes(b"password")
    REFUSALS[reason](new, path)
    new.close()
    assert reason in refused(path)


def test_virtual_datasets_are_refused(path, new):
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "a", (2,))
    new.create_virtual_dataset("a", layout)
    new.close()
    assert "in other files" in refused(path)


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"track_order": True}])
def test_newer_forms_of_hdf5_are_read_too(path, options):
    with h5py.File(path, "w", **options) as file:
        file["a/b"] = [1.0, 2.0]
    with open_tensors(path) as file:
        assert file.read("a/b").tolist() == [1, 2]


def test_a_group_that_holds_itself_is_refused(path, new):
    new["a/b"] = new["/"]
    new.close()
    assert "tensor 'a/b': is another name of an object" in refused(path)


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.999])
def test_a_truncated_file_is_refused(path, new, keep):
    new["a/b"] = GRID
    new.close()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    refused(path)
