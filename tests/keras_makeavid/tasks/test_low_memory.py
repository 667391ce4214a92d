"""`low_memory`: the same video in less memory, and parts that come and go."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_makeavid import TextToVideo, devices

GENERATION = """
import resource
import sys
import numpy as np
import torch
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.sampling import Conditions, DenoisingLoop
from keras_makeavid.schedulers import get_scheduler

torch.set_num_threads(1)
unet = UNetPseudo3D(
    block_channels=(32,), layers_per_block=1, attention_levels=(False,), groups=8,
    context_dim=16, num_heads=2,
)
noise = np.zeros((1, 4, 128, 128, 4), "float32")
text = np.zeros((1, 4, 16), "float32")
given = Conditions(text, text, 5.0, noise[..., :1], noise)
with open("/proc/self/status") as status:
    data = next(line for line in status if line.startswith("VmData")).split()[1]
most = 1024 * int(data) + 250 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
table = get_scheduler("ddim").table(1)
DenoisingLoop(unet)(noise, given, table, low_memory=sys.argv[1] == "low")
"""


@pytest.mark.once
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_what_fits_with_low_memory_does_not_fit_without():
    def run(mode):
        return subprocess.run(
            [sys.executable, "-c", GENERATION, mode],
            env={**os.environ, "KERAS_BACKEND": "torch"},
            capture_output=True,
            text=True,
        )

    low = run("low")
    assert low.returncode == 0, low.stderr[-2000:]
    assert "can't allocate memory" in run("ordinary").stderr


def test_the_video_is_the_same_but_for_rounding(preset, task, hint):
    options = {"num_frames": 4, "num_steps": 2, "guidance_scale": 5.0, "seed": 0}
    low = TextToVideo.from_preset(str(preset), dtype="float32", low_memory=True)
    for given in ({"hint_image": hint}, {}):
        difference = low.generate("a cat", **options, **given).astype(int)
        difference -= task.generate("a cat", **options, **given)
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    "settings", [{"low_memory": True}, {"dtype": "bfloat16"}], ids=str
)
def test_what_was_loaded_to_generate_does_not_train(preset, settings):
    task = TextToVideo.from_preset(str(preset), **settings)
    with pytest.raises(
        ValueError, match="To train, load the task with dtype='float32'"
    ):
        task.compile()


# Weights on the accelerator, here of an invented one.


def test_each_part_is_on_the_accelerator_only_while_it_works(preset, hint, monkeypatch):
    task = TextToVideo.from_preset(str(preset), low_memory=True)
    names = {id(task.backbone): "unet", id(task.vae): "vae"}
    names[id(task.text_encoder)] = "text"
    there, seen = set(), []

    def move(part, to_host):
        name = names[id(part)]
        assert (name in there) == to_host
        (there.remove if to_host else there.add)(name)
        seen.append(sorted(there))

    monkeypatch.setattr(devices, "_accelerator", lambda: "gpu")
    monkeypatch.setattr(devices, "_move", move)
    task.generate("a cat", num_frames=1, num_steps=1, seed=0, progress=lambda *_: None)
    work = [names for names in seen if names]
    assert work == [["text"], ["vae"], ["unet"], ["unet"], ["vae"]]
    assert not there
    task.low_memory = False
    seen.clear()
    task.encode_prompts(["a cat"])
    assert not seen


@pytest.mark.skipif(keras.config.backend() == "tensorflow", reason="nothing moves")
def test_moved_weights_are_what_they_were(make_unet, monkeypatch):
    unet = make_unet(0)
    before = [keras.ops.convert_to_numpy(weight) for weight in unet.weights]
    device = "cpu"
    if keras.config.backend() == "jax":
        import jax

        device = jax.local_devices()[0]
    monkeypatch.setattr(devices, "_accelerator", lambda: device)
    with devices.on_device(unet, only_now=True):
        pass
    for weight, value in zip(unet.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), value)
