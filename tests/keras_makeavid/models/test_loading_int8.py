"""Models with weights in int8, against themselves in float32."""

import json

import goldens
import keras
import numpy as np
import pytest
from keras import ops
from running import built, runner

from keras_makeavid.layers import PseudoConv3D, SpatialConv
from keras_makeavid.layers.dense import Dense
from keras_makeavid.models import AutoencoderKL, UNetPseudo3D
from keras_makeavid.training.trainable import add_lora, has_lora


def error(outputs, expected):
    return np.linalg.norm(outputs - expected) / np.linalg.norm(expected)


def dtypes(model):
    return {keras.backend.standardize_dtype(v.dtype) for v in model.variables}


@pytest.fixture(scope="module")
def golden():
    """The two-level golden model and the preset that it is saved as."""
    return goldens.unet_case("unet_image").unet(gelu="exact")


@pytest.mark.parametrize("name", ["unet_image", "unet_video", "unet_video_nonsquare"])
def test_the_output_of_the_goldens_stays_within_3_percent(name):
    case = goldens.unet_case(name)
    unet = case.unet(gelu="exact")
    unet.quantize("int8")
    outputs = runner(unet)(case.inputs)
    assert 0 < error(outputs, case.output("exact")) < 0.03


def test_a_preset_keeps_int8_and_either_form_loads_as_the_other(golden, tmp_path):
    run_inputs = goldens.unet_case("unet_image").inputs
    golden.save_to_preset(str(tmp_path / "float"))
    made = UNetPseudo3D.from_preset(str(tmp_path / "float"), dtype="int8_from_float32")
    assert dtypes(made) == {"float32", "int8"}
    expected = runner(made)(run_inputs)
    made.save_to_preset(str(tmp_path / "int8"))
    sizes = [
        (tmp_path / name / "model.weights.h5").stat().st_size
        for name in ("int8", "float")
    ]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = UNetPseudo3D.from_preset(str(tmp_path / "int8"))
    assert loaded.get_config()["dtype"]["config"] == {
        "mode": "int8",
        "source_name": "float32",
    }
    np.testing.assert_array_equal(runner(loaded)(run_inputs), expected)
    # Widened once, while they are loaded.
    widened = UNetPseudo3D.from_preset(str(tmp_path / "int8"), dtype="float32")
    assert dtypes(widened) == {"float32"}
    np.testing.assert_allclose(runner(widened)(run_inputs), expected, atol=1e-4)


def test_quantizing_equals_loading_into_int8_and_is_done_once(tmp_path):
    unet = goldens.unet_case("unet_image").unet(gelu="exact")
    unet.save_to_preset(str(tmp_path / "float"))
    made = UNetPseudo3D.from_preset(str(tmp_path / "float"), dtype="int8_from_float32")
    unet.quantize("int8")
    unet.quantize("int8")
    theirs = {v.path: ops.convert_to_numpy(v) for v in made.variables}
    for variable in unet.variables:
        np.testing.assert_array_equal(variable, theirs.pop(variable.path))
    assert not theirs


def test_the_convolutions_that_carry_the_signal_stay_exact(golden):
    made = UNetPseudo3D.from_config(
        {**golden.get_config(), "dtype": "int8_from_float32"}
    )
    kept = {
        v.path.split("/", 1)[1]
        for v in made.variables
        if v.path.endswith("kernel") and "int8" not in str(v.dtype)
    }
    assert "conv_in/spatial_conv/kernel" in kept
    assert "down_blocks_0/attentions_0/proj_in/kernel" in kept
    assert not any("/to_q/" in path or "/ff/" in path for path in kept)


def test_the_autoencoder_is_quantized_and_its_programs_anew():
    autoencoder = AutoencoderKL(block_channels=(8, 8), layers_per_block=1, groups=4)
    latents = np.random.default_rng(0).standard_normal((2, 3, 5, 4), "float32")
    before = autoencoder.decode_video(latents).astype(int)
    autoencoder.quantize("int8")
    after = autoencoder.decode_video(latents).astype(int)
    assert dtypes(autoencoder) == {"float32", "int8"}
    assert 0 < error(after - 127.5, before - 127.5) < 0.03


@pytest.mark.parametrize("layers", ["attn", r"resnets_0/conv1/spatial_conv"])
def test_adapters_train_on_top_of_int8(golden, layers):
    made = UNetPseudo3D.from_config(
        {**golden.get_config(), "dtype": "int8_from_float32"}
    )
    assert add_lora(made, rank=2, alpha=2.0, layers=layers) > 0
    assert has_lora(made)
    adapted = next(
        layer for layer in made._kernels() if getattr(layer, "lora_enabled", False)
    )
    before = ops.convert_to_numpy(adapted.kernel)
    adapted.lora_kernel_b.assign(np.ones(adapted.lora_kernel_b.shape))
    added = ops.matmul(adapted.lora_kernel_a, adapted.lora_kernel_b)
    np.testing.assert_allclose(
        ops.convert_to_numpy(adapted.kernel) - before,
        ops.convert_to_numpy(added),
        atol=1e-5,
    )
    saved = {}
    adapted.save_own_variables(saved)
    # The sum, rounded anew.
    step = 1 / ops.convert_to_numpy(saved["2"])
    again = ops.convert_to_numpy(saved["0"]) * step
    assert np.all(np.abs(again - ops.convert_to_numpy(adapted.kernel)) < 0.51 * step)


@pytest.mark.parametrize(
    "make",
    [
        lambda **k: Dense(6, activation="silu", **k),
        lambda **k: Dense(6, use_bias=False, **k),
        lambda **k: SpatialConv(6, strides=2, **k),
        lambda **k: SpatialConv(6, use_bias=False, **k),
        lambda **k: PseudoConv3D(6, **k),
    ],
    ids=["dense", "dense no bias", "conv", "conv no bias", "pseudo-3D"],
)
def test_layers_are_within_rounding_and_keep_their_configuration(make):
    video = np.random.default_rng(0).standard_normal((2, 3, 4, 6, 8), "float32")
    layer = make()
    inputs = video if isinstance(layer, PseudoConv3D) else video[:, 0]
    expected = runner(built(layer, inputs))(inputs)
    for part in layer._flatten_layers():
        if not isinstance(part, PseudoConv3D):
            part.quantize("int8")
            assert part.dtype_policy.name == "int8_from_float32"
            again = type(part).from_config(json.loads(json.dumps(part.get_config())))
            assert again.quantization_mode == "int8"
    assert 0 < error(runner(layer)(inputs), expected) < 0.02


def test_other_modes_and_options_are_refused(golden):
    with pytest.raises(ValueError, match="takes the mode \"int8\".* mode='float8'"):
        golden.quantize("float8")
    with pytest.raises(ValueError, match="mode='int8', filters='conv'"):
        golden.quantize("int8", filters="conv")
    with pytest.raises(ValueError, match="int8 only. Received: 'float8_from_float32'"):
        AutoencoderKL(block_channels=(8,), groups=4, dtype="float8_from_float32")
