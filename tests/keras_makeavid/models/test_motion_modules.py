"""A UNet with motion modules against diffusers' and a transcription of AnimateDiff."""

import copy
import functools
import json

import diffusers
import numpy as np
import pytest
import torch
from running import runner

import weights_tools

# The versions as diffusers' own classes are told of them.
VERSIONS = {
    "v1": {"use_motion_mid_block": False, "motion_max_seq_length": 24},
    "v2": {"use_motion_mid_block": True, "motion_max_seq_length": 32},
}
SMALL = {
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
    "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "num_attention_heads": 2,
    "motion_num_attention_heads": 4,
    "cross_attention_dim": 24,
}
# diffusers' choice of both norms, whatever the version.
DIFFUSERS_NORMS = {"motion_norm_over_frames": True, "residual_norm_over_frames": False}


def diffusers_unet(version, **config):
    """A peer whose weights all matter, those that begin at zero too."""
    torch.manual_seed(0)
    peer = diffusers.UNetMotionModel(**VERSIONS[version], **config).eval()
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "motion_modules" in name and name.endswith("proj_out.weight"):
                parameter.copy_(torch.randn_like(parameter) / len(parameter) ** 0.5)
    return peer


def twin(peer, **own):
    """Our model of the peer's config file, with its weights."""
    config = json.loads(peer.to_json_string())
    unet = weights_tools.unet_from_diffusers_config({**config, **own})
    weights_tools.load_weights(unet, peer.state_dict())
    return unet


@functools.cache
def pair(version):
    return diffusers_unet(version, **SMALL), twin(
        diffusers_unet(version, **SMALL), **DIFFUSERS_NORMS
    )


def inputs_of(frames, height=8, width=12, channels=4, context_dim=24, batch=2):
    random = np.random.default_rng(0)
    shape = (batch, frames, height, width, channels)
    return {
        "sample": random.standard_normal(shape, "float32"),
        "timesteps": np.array([7, 981])[:batch],
        "context": random.standard_normal((batch, 5, context_dim), "float32"),
    }


def peer_inputs(inputs, dtype=torch.float64):
    frames = inputs["sample"].shape[1]
    return (
        torch.from_numpy(np.moveaxis(inputs["sample"], -1, 1).copy()).to(dtype),
        torch.from_numpy(inputs["timesteps"]),
        # Each frame its own copy of the text.
        torch.from_numpy(inputs["context"]).to(dtype).repeat_interleave(frames, 0),
    )


def peer_output(peer, inputs):
    """In float64: the error is then ours alone."""
    with torch.no_grad():
        output = copy.deepcopy(peer).double()(*peer_inputs(inputs)).sample
    return np.moveaxis(output.float().numpy(), 1, -1)


def assert_same(ours, theirs, atol=5e-5):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("frames", [1, 8, 24])
def test_it_agrees_with_diffusers(version, frames):
    peer, unet = pair(version)
    inputs = inputs_of(frames)
    assert_same(runner(unet)(inputs), peer_output(peer, inputs))
