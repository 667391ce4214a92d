"""Adapters of motion modules, such as AnimateDiff's camera moves."""

import copy
import re

import numpy as np
import pytest
import torch
from animatediff import DIFFUSERS_NORMS, motion_unet, twin
from keras import ops
from running import runner
from safetensors.torch import save_file

from weights_tools.architectures import variables_of
from weights_tools.lora import read_lora

INPUTS = {
    "sample": np.random.default_rng(0).standard_normal((1, 3, 4, 4, 4), "float32"),
    "timesteps": np.array([500]),
    "context": np.random.default_rng(1).standard_normal((1, 5, 24), "float32"),
}


@pytest.fixture(scope="module")
def peer():
    return motion_unet("v2")


@pytest.fixture(scope="module")
def adapters(peer):
    """Random pairs for all attentions of all modules, by the names of PEFT."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(5)
    layers = [
        name
        for name, _ in peer.named_modules()
        if re.search(r"motion_modules.*\.(to_[qkv]|to_out\.0)$", name)
    ]
    config = LoraConfig(
        r=2, lora_alpha=2, target_modules=layers, init_lora_weights=False
    )
    peer.add_adapter(config)
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            if "lora" in name:
                parameter.normal_(std=0.3)
    return get_peft_model_state_dict(peer)


def as_diffusers(name):
    return f"unet.{name}"


def as_animatediff(name):
    name = re.sub(r"(motion_modules\.\d+\.)", r"\1temporal_transformer.", name)
    for i in (1, 2):
        name = name.replace(f".attn{i}.", f".attention_blocks.{i - 1}.processor.")
    name = re.sub(r"(to_\w+)(\.0)?\.lora_A", r"\1_lora.down", name)
    return "module." + re.sub(r"(to_\w+)(\.0)?\.lora_B", r"\1_lora.up", name)


@pytest.mark.parametrize("rename", [as_diffusers, as_animatediff])
def test_adapters_of_motion_modules_compute_what_they_do_in_diffusers(
    rename, peer, adapters, tmp_path
):
    path = tmp_path / "zoom.safetensors"
    save_file({rename(n): t.contiguous() for n, t in adapters.items()}, path)
    peer.disable_adapters()
    plain = {n.replace(".base_layer", ""): t for n, t in peer.state_dict().items()}
    clean = motion_unet("v2")
    clean.load_state_dict({n: t for n, t in plain.items() if "lora" not in n})
    unet = twin(clean, **DIFFUSERS_NORMS)
    before = runner(unet)(INPUTS)
    variables = variables_of(unet)
    shapes = {name: tuple(v.shape) for name, v in variables.items()}
    found = read_lora(path, {"unet": shapes})["unet"]
    assert len(found) == len(adapters) // 2
    for name, pair in found.items():
        delta = pair.delta("unet", name, shapes[name])
        variables[name].assign(ops.convert_to_numpy(variables[name]) + delta)
    ours = runner(unet)(INPUTS)
    peer.enable_adapters()
    with torch.no_grad():
        output = (
            copy.deepcopy(peer)
            .double()(
                torch.from_numpy(np.moveaxis(INPUTS["sample"], -1, 1).copy()).double(),
                torch.from_numpy(INPUTS["timesteps"]),
                # For each frame.
                torch.from_numpy(np.repeat(INPUTS["context"], 3, axis=0)).double(),
            )
            .sample
        )
    theirs = np.moveaxis(output.float().numpy(), 1, -1)
    assert np.abs(ours - theirs).max() < 5e-5
    assert np.abs(ours - before).max() > 1e-2
