import goldens
import ml_dtypes
import numpy as np
import pytest
from keras import ops
from safetensors.numpy import save_file

import weights_tools

CASE = goldens.unet_case("unet_image")


@pytest.fixture(scope="module")
def unet():
    return weights_tools.unet_from_diffusers_config(CASE.config)


@pytest.fixture
def arrays():
    return CASE.weights()


def values(unet):
    return [ops.convert_to_numpy(v) for v in unet.variables]


def kernel(unet):
    return ops.convert_to_numpy(unet.network.conv_in.spatial_conv.kernel)


def test_a_dict_of_arrays_loads(unet, arrays):
    weights_tools.load_weights(unet, arrays)
    expected = arrays["conv_in.spatial_conv.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel(unet), expected)


def test_a_dict_of_torch_tensors_loads(unet, arrays):
    import torch

    weights_tools.load_weights(unet, {k: torch.tensor(v) for k, v in arrays.items()})
    expected = arrays["conv_in.spatial_conv.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel(unet), expected)


@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16])
def test_a_file_of_each_dtype_loads(unet, arrays, tmp_path, dtype):
    stored = {k: v.astype(dtype) for k, v in arrays.items()}
    save_file(stored, tmp_path / "model.safetensors")
    weights_tools.load_weights(unet, tmp_path / "model.safetensors")
    expected = stored["conv_in.spatial_conv.weight"].astype("float32")
    np.testing.assert_array_equal(kernel(unet), expected.transpose(2, 3, 1, 0))


def test_wrong_tensors_are_all_listed_and_nothing_is_loaded(unet, arrays):
    before = values(unet)
    del arrays["conv_in.spatial_conv.bias"]
    arrays["conv_in.extra"] = np.zeros((2, 3), "float32")
    arrays["conv_out.spatial_conv.bias"] = np.zeros(5, "float32")
    with pytest.raises(ValueError) as error:
        weights_tools.load_weights(unet, arrays)
    message = str(error.value)
    assert "1 missing: conv_in.spatial_conv.bias (32,)" in message
    assert "1 surplus: conv_in.extra (2, 3)" in message
    assert "1 misshapen: conv_out.spatial_conv.bias (5,), expected (4,)" in message
    for old, new in zip(before, values(unet), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_long_list_of_problems_is_cut(unet):
    arrays = {"conv_in.temporal_conv.weight": np.zeros((32, 32, 3), "float32")}
    with pytest.raises(ValueError, match=r"and \d+ more") as error:
        weights_tools.load_weights(unet, arrays)
    assert len(str(error.value)) < 4000


def test_an_unknown_layout_is_named_with_the_known_ones(unet, arrays):
    with pytest.raises(ValueError, match="makeavid_torch.*Received: 'jpeg'"):
        weights_tools.load_weights(unet, arrays, layout="jpeg")


def test_tensors_of_no_layout_are_refused(unet):
    with pytest.raises(ValueError, match="must hold one unet.*banana"):
        weights_tools.load_weights(unet, {"banana": np.zeros(3, "float32")})


def test_a_missing_file_is_named(unet, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.safetensors"):
        weights_tools.load_weights(unet, tmp_path / "no.safetensors")


def test_a_truncated_file_is_refused(unet, arrays, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(arrays, path)
    content = path.read_bytes()
    for size in (4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=str(path)):
            weights_tools.load_weights(unet, path)


def test_nothing_of_a_pickle_is_run(unet, tmp_path):
    import pickle

    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=str(path)):
        weights_tools.load_weights(unet, path)
    assert not (tmp_path / "ran").exists()


def test_a_bad_value_is_found_before_anything_is_loaded(unet, arrays):
    before = values(unet)
    arrays = {name: array + 1 for name, array in arrays.items()}
    arrays[list(arrays)[-1]].flat[0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        weights_tools.load_weights(unet, arrays)
    for old, new in zip(before, values(unet), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("dtype", ["int8", "bool", "int64", "complex64"])
def test_what_is_no_float_is_no_weight(unet, arrays, dtype):
    name = "conv_out.spatial_conv.bias"
    arrays[name] = np.ones(4, dtype)
    with pytest.raises(ValueError, match=rf"'{name}'.*float32.*Received: {dtype}"):
        weights_tools.load_weights(unet, arrays)


def test_double_precision_loads_as_the_models_own(unet, arrays):
    weights_tools.load_weights(unet, {k: v.astype("f8") for k, v in arrays.items()})
    expected = arrays["conv_in.spatial_conv.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel(unet), expected)
