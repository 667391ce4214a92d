"""Stable Diffusion 1.5's real size: what streams, and what every byte does."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import weights_tools
from weights_tools.formats import open_tensors

pytestmark = pytest.mark.slow

LARGEST_TENSOR = 2560 * 1280 * 9 * 4

FILES = (
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """4.3 GB of random weights, saved by diffusers and transformers."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = tmp_path_factory.mktemp("full_size")
    save(
        lambda: UNet2DConditionModel(in_channels=9, cross_attention_dim=768),
        folder / "unet",
    )
    save(
        lambda: AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=[128, 256, 512, 512],
            layers_per_block=2,
        ),
        folder / "vae",
    )
    config = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        vocab_size=49408,
    )
    save(lambda: CLIPTextModel(config), folder / "text_encoder")
    return folder


def save(make, folder):
    with torch.device("meta"):
        model = make()
    model = model.to_empty(device="cpu")
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.uniform_(-0.02, 0.02)
    model.save_pretrained(folder, max_shard_size="10GB")


WATCHED = """
import json, sys, threading
import weights_tools

def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024

before, peak, finished = anonymous(), 0, threading.Event()
def watch():
    global peak
    while not finished.wait(0.005):
        peak = max(peak, anonymous())
watcher = threading.Thread(target=watch)
watcher.start()
operation, source, out, layout = sys.argv[1:]
getattr(weights_tools, operation)(source, out, layout)
finished.set()
watcher.join()
assert peak > before, "nothing was measured"
print(json.dumps(peak - before))
"""


def memory_of(operation, source, out, layout):
    """Anonymous memory that it took at most, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, operation, str(source), str(out), layout],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_a_full_size_checkpoint_streams_and_every_byte_comes_back(pipeline, tmp_path):
    bound = LARGEST_TENSOR + 10**9
    ldm, preset, back = (tmp_path / n for n in ("ldm.safetensors", "preset", "back"))
    assert memory_of("convert", pipeline, ldm, "ldm") < bound
    assert memory_of("inflate", ldm, preset, "keras") < bound
    found = weights_tools.inspect(preset)
    assert found["unet"].parameters == 1_100_578_616
    assert found["unet"].parameters - found["unet"].temporal_parameters == 859_535_364
    assert memory_of("convert", preset, back, "diffusers") < bound
    for name in FILES:
        with open_tensors(pipeline / name) as sent, open_tensors(back / name) as got:
            # As transformers before version 5, we write this prefix.
            names = {name.removeprefix("text_model."): name for name in got.specs}
            assert names.keys() == sent.specs.keys()
            assert all(same_bytes(sent.read(n), got.read(names[n])) for n in names)


def same_bytes(first, second):
    same = (first.dtype, first.shape) == (second.dtype, second.shape)
    return same and np.array_equal(first.view("u1"), second.view("u1"))
