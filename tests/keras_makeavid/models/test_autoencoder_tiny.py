"""The tiny autoencoder against diffusers', from its files and over videos."""

import json
import shutil

import diffusers
import keras
import numpy as np
import pytest
import torch
from keras import ops
from safetensors.numpy import load_file, save_file

import weights_tools
from keras_makeavid.compilation import compile_inference
from keras_makeavid.models import AutoencoderTiny

# Levels of different depths in both coders.
SMALL = {
    "encoder_block_out_channels": [8, 8, 8],
    "decoder_block_out_channels": [8, 8, 8],
    "num_encoder_blocks": [1, 2, 1],
    "num_decoder_blocks": [2, 1, 3],
}
WEIGHTS = "diffusion_pytorch_model.safetensors"


def written_peer(path, **config):
    """A peer whose latents and pictures have contrast, and its folder."""
    torch.manual_seed(0)
    peer = diffusers.AutoencoderTiny(**config).eval().requires_grad_(False)
    for parameter in peer.parameters():
        parameter.mul_(1.5)
    peer.save_pretrained(path)
    return peer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tiny")


def load(source, **options):
    return weights_tools.load_model(source, "tiny_vae", **options)


@pytest.fixture(scope="module")
def peer(folder):
    return written_peer(folder, **SMALL)


@pytest.fixture(scope="module")
def tiny(folder, peer):
    return load(folder)


def normal(*shape):
    return 2 * np.random.default_rng(0).standard_normal(shape, "float32")


def pictures(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def of_peer(function, array):
    output = function(torch.from_numpy(np.moveaxis(array, -1, 1).copy()))
    return np.moveaxis(output.numpy(), 1, -1)


def run(model, function, array):
    output = compile_inference(function, [model])(ops.convert_to_tensor(array))
    return ops.convert_to_numpy(ops.cast(output, "float32"))


def check_parity(tiny, peer, height, width):
    images = pictures(2, height, width, 3)
    expected = of_peer(lambda x: peer.encode(x).latents, images)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(
        run(tiny, tiny.encode, images), expected, atol=1e-4, rtol=0
    )
    latents = normal(*expected.shape)
    # As diffusers' pipelines decode.
    expected = of_peer(
        lambda x: peer.decode(x / peer.config.scaling_factor).sample, latents
    )
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(
        run(tiny, tiny.decode, latents), expected, atol=1e-4, rtol=0
    )


def test_both_coders_equal_those_of_diffusers(tiny, peer):
    check_parity(tiny, peer, height=20, width=12)


def test_the_default_is_the_architecture_of_taesd(tmp_path):
    peer = written_peer(tmp_path)
    tiny = load(tmp_path)
    assert tiny.get_config() == AutoencoderTiny(name=tiny.name).get_config()
    assert tiny.count_params() == 2_445_063
    check_parity(tiny, peer, height=24, width=16)


def test_latents_are_scaled_as_the_configuration_says(tmp_path):
    peer = written_peer(tmp_path, **SMALL, scaling_factor=0.5)
    tiny = load(tmp_path)
    latents = normal(1, 3, 2, 4)
    np.testing.assert_allclose(
        run(tiny, tiny.decode, latents),
        of_peer(lambda x: peer.decode(x / 0.5).sample, latents),
        atol=1e-4,
        rtol=0,
    )
    images = pictures(1, 12, 8, 3)
    np.testing.assert_allclose(
        run(tiny, tiny.encode, images),
        of_peer(lambda x: peer.encode(x).latents * 0.5, images),
        atol=1e-4,
        rtol=0,
    )


@pytest.mark.once
def test_weights_go_to_a_preset_and_back_to_diffusers(folder, peer, tmp_path):
    weights_tools.convert(folder, tmp_path / "converted")
    AutoencoderTiny.from_preset(str(tmp_path / "converted")).save_to_preset(
        tmp_path / "own"
    )
    weights_tools.convert(tmp_path / "own", tmp_path / "back", layout="diffusers")
    back = load_file(tmp_path / "back" / WEIGHTS)
    for name, value in load_file(folder / WEIGHTS).items():
        np.testing.assert_array_equal(back[name], value)
    again = diffusers.AutoencoderTiny.from_pretrained(
        tmp_path / "back", low_cpu_mem_usage=False
    )
    assert again.config.num_decoder_blocks == SMALL["num_decoder_blocks"]
    assert weights_tools.verify(folder, tmp_path / "back")["tiny_vae"].max_error == 0


def test_videos_are_coded_by_frame_and_to_uint8(tiny):
    video = pictures(2, 3, 8, 12, 3)
    latents = tiny.encode_video(video)
    assert latents.shape == (2, 3, 2, 3, 4)
    frames = tiny.decode_video(latents, chunk_size=4)
    expected = run(tiny, tiny, video)
    expected = np.rint((expected.clip(-1, 1) + 1) * 127.5)
    assert frames.dtype == np.uint8
    assert np.abs(frames - expected).max() <= 1


def test_half_precision_is_close(tiny, folder):
    half = load(folder, dtype="bfloat16")
    latents = normal(1, 4, 4, 4)
    images = run(half, half.decode, latents)
    expected = run(tiny, tiny.decode, latents)
    assert np.linalg.norm(images - expected) < 0.02 * np.linalg.norm(expected)


def test_a_keras_file_holds_the_model(tiny, tmp_path):
    tiny.save(tmp_path / "tiny.keras")
    again = keras.saving.load_model(tmp_path / "tiny.keras")
    latents = ops.convert_to_tensor(normal(1, 2, 2, 4))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again.decode(latents)),
        ops.convert_to_numpy(tiny.decode(latents)),
    )


@pytest.mark.once
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"act_fn": "gelu"}, r"act_fn must be 'relu' in this architecture"),
        ({"upsampling_scaling_factor": 4}, "upsampling_scaling_factor must be 2"),
        (
            {"decoder_block_out_channels": [8, 8, 4]},
            r"decoder_block_out_channels must be one number for each of "
            r"num_decoder_blocks, all 8 in this architecture. Received: \[8, 8, 4\]",
        ),
        ({"out_channels": 4}, "out_channels must equal in_channels"),
        ({"num_encoder_blocks": [1, 10**6, 1]}, "num_encoder_blocks"),
    ],
)
def test_other_architectures_are_refused(folder, tmp_path, changed, message):
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changed}))
    (tmp_path / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


@pytest.mark.once
def test_what_is_no_tiny_autoencoder_is_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is nothing at"):
        load(tmp_path / "nowhere")
    tensors = load_file(folder / WEIGHTS)
    del tensors["encoder.layers.1.conv.2.bias"]
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=r"tiny_vae, and no config\.json lies beside"):
        load(tmp_path / WEIGHTS)
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(ValueError, match=r"1 missing: encoder\.layers\.1\.conv\.2\."):
        load(tmp_path / WEIGHTS)
    config = {"block_out_channels": [4], "layers_per_block": 1, "norm_num_groups": 2}
    diffusers.AutoencoderKL(**config).save_pretrained(tmp_path / "vae")
    with pytest.raises(ValueError, match=r"no tiny_vae in the source. .*'vae'"):
        load(tmp_path / "vae")


@pytest.mark.once
def test_coders_of_different_factors_are_refused():
    with pytest.raises(ValueError, match=r"encoder_blocks=\(1,\), decoder_blocks=\(1"):
        AutoencoderTiny(encoder_blocks=(1,), decoder_blocks=(1, 1))
