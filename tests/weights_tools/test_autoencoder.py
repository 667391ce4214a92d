"""Autoencoders as diffusers writes them, then and now."""

import inspect
import json

import diffusers
import numpy as np
import pytest
import torch
from keras import ops
from safetensors.numpy import load_file, save_file

import weights_tools
from keras_makeavid.models import AutoencoderKL
from weights_tools.configs import our_arguments

CONFIG = {
    "block_out_channels": [4, 4],
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
}

# As `vae/config.json` of Stable Diffusion 1.5 stands.
STABLE_DIFFUSION = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}

OLD_NAMES = {
    ".to_q.": ".query.",
    ".to_k.": ".key.",
    ".to_v.": ".value.",
    ".to_out.0.": ".proj_attn.",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An autoencoder's folder, written by diffusers."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vae")
    diffusers.AutoencoderKL(**CONFIG).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def tensors(folder):
    return load_file(folder / "diffusion_pytorch_model.safetensors")


def in_old_names(tensors):
    renamed = {}
    for name, tensor in tensors.items():
        if ".attentions." in name:
            for new, old in OLD_NAMES.items():
                name = name.replace(new, old)
        renamed[name] = tensor
    return renamed


def small_autoencoder():
    return weights_tools.autoencoder_from_diffusers_config(CONFIG)


def decoded(model):
    latents = np.random.default_rng(0).normal(size=(1, 4, 4, 4)).astype("float32")
    return ops.convert_to_numpy(model.decode(latents))


def decoded_by_diffusers(folder):
    peer = diffusers.AutoencoderKL.from_pretrained(folder).eval()
    latents = np.random.default_rng(0).normal(size=(1, 4, 4, 4)).astype("float32")
    with torch.no_grad():
        images = peer.decode(torch.from_numpy(latents).permute(0, 3, 1, 2) / 0.18215)
    return images.sample.permute(0, 2, 3, 1).numpy()


def test_a_folder_of_diffusers_makes_the_same_model(folder):
    config = json.loads((folder / "config.json").read_text())
    model = weights_tools.autoencoder_from_diffusers_config(config)
    weights_tools.load_weights(model, folder / "diffusion_pytorch_model.safetensors")
    np.testing.assert_allclose(
        decoded(model), decoded_by_diffusers(folder), atol=1e-4, rtol=0
    )


@pytest.mark.once
def test_old_names_are_read_as_diffusers_reads_them(folder, tensors, tmp_path):
    old = in_old_names(tensors)
    assert "decoder.mid_block.attentions.0.proj_attn.weight" in old
    save_file(old, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())

    model = small_autoencoder()
    weights_tools.load_weights(model, tmp_path / "diffusion_pytorch_model.safetensors")
    np.testing.assert_allclose(
        decoded(model), decoded_by_diffusers(tmp_path), atol=1e-4, rtol=0
    )


@pytest.mark.once
@pytest.mark.parametrize(
    ("layout", "rename"),
    [("diffusers", dict), ("diffusers_old", in_old_names)],
)
def test_a_layout_may_be_named_and_must_fit(tensors, layout, rename):
    named, told_by_names = small_autoencoder(), small_autoencoder()
    weights_tools.load_weights(named, rename(tensors), layout)
    weights_tools.load_weights(told_by_names, rename(tensors))
    np.testing.assert_array_equal(decoded(named), decoded(told_by_names))

    incomplete = rename(tensors)
    del incomplete["quant_conv.bias"]
    with pytest.raises(ValueError, match=f"'{layout}'.*1 missing: quant_conv.bias"):
        weights_tools.load_weights(named, incomplete)
    np.testing.assert_array_equal(decoded(named), decoded(told_by_names))


def test_half_precision_files_load(tensors):
    full, half = small_autoencoder(), small_autoencoder()
    halved = {name: tensor.astype("float16") for name, tensor in tensors.items()}
    weights_tools.load_weights(half, halved)
    weights_tools.load_weights(
        full, {name: tensor.astype("float32") for name, tensor in halved.items()}
    )
    np.testing.assert_array_equal(decoded(half), decoded(full))


@pytest.mark.once
def test_the_config_of_stable_diffusion_asks_for_the_defaults():
    parameters = inspect.signature(AutoencoderKL).parameters
    arguments = our_arguments("vae", STABLE_DIFFUSION)
    assert arguments == {name: parameters[name].default for name in arguments}


@pytest.mark.once
def test_absent_keys_have_the_defaults_of_diffusers():
    with torch.device("meta"):
        everything = dict(diffusers.AutoencoderKL().config)
    absent = our_arguments("vae", {})
    assert absent["block_channels"] == (64,)
    assert our_arguments("vae", everything).items() >= absent.items()


@pytest.mark.once
def test_our_own_keys_override():
    model = weights_tools.autoencoder_from_diffusers_config(
        CONFIG | {"dtype": "mixed_bfloat16", "epsilon": 1e-5}
    )
    assert (model.dtype_policy.name, model.epsilon) == ("mixed_bfloat16", 1e-5)


@pytest.mark.once
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 3}, "autoencoder config: depth is unknown"),
        ({"use_quant_conv": False}, "use_quant_conv must be True .*Received: False"),
        ({"shift_factor": 0.1}, "shift_factor is unknown"),
        ({"_class_name": "AutoencoderTiny"}, "_class_name .*AutoencoderTiny"),
        ({"out_channels": 4}, "out_channels=4, in_channels=3"),
        ({"block_out_channels": [4]}, r"down_block_types must be .*\[4\]"),
        (
            {"up_block_types": ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]},
            "up_block_types must be .*AttnUpDecoderBlock2D",
        ),
    ],
)
def test_another_architecture_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        weights_tools.autoencoder_from_diffusers_config(CONFIG | change)
