"""Recipes train motion modules as they train pseudo-3D parts."""

import os
import signal

import numpy as np
import pytest
from keras import ops

from keras_makeavid import TextToVideo
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.training import read_metrics, train

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def motion_preset(task, tmp_path_factory):
    """The tiny preset with motion modules, and without mask and hint."""
    own = ("block_channels", "layers_per_block", "attention_levels", "groups")
    sizes = {name: getattr(task.backbone, name) for name in own}
    unet = UNetPseudo3D(
        in_channels=4,
        num_heads=2,
        context_dim=16,
        temporal="motion_modules",
        motion_num_heads=2,
        motion_positions=24,
        **sizes,
    )
    random = np.random.default_rng(0)
    for weight in unet.weights:
        # New modules end in a projection of zeros, before which nothing would move.
        if weight.path.endswith("proj_out/kernel"):
            weight.assign(random.normal(0, 0.1, weight.shape))
    parts = unet, task.preprocessor, task.text_encoder, task.vae
    folder = tmp_path_factory.mktemp("presets") / "motion"
    TextToVideo(*parts, height=128, width=128).save_to_preset(folder)
    return folder


def losses(result):
    metrics = read_metrics(os.path.join(result.folder, "metrics.jsonl"))
    return [line["loss"] for line in metrics]


def loss_of(preset):
    """The loss on the same noise and timesteps each time."""
    task = TextToVideo.from_preset(str(preset))
    task.compile(seed=0)
    random = np.random.default_rng(0)
    latents = random.standard_normal((64, 3, 2, 2, 4)) / task.vae.scaling_factor
    batch = {"latents": latents, "context": random.standard_normal((64, 12, 16))}
    return task.evaluate(batch, batch_size=64, verbose=0)


def moved(before, after):
    weights = [
        {v.path: ops.convert_to_numpy(v) for v in unet.variables}
        for unet in (
            TextToVideo.from_preset(str(preset)).backbone for preset in (before, after)
        )
    ]
    return {p for p, w in weights[0].items() if not np.allclose(w, weights[1][p])}


STAGES = [
    {
        "name": "modules",
        "length": "25 epochs",
        "learning_rate": {"peak": 1e-2, "warmup": "1 epoch"},
    }
]


def test_a_recipe_trains_the_modules_and_the_loss_falls(make_recipe, motion_preset):
    model = {"preset": str(motion_preset)}
    result = train(make_recipe(model=model, stage=STAGES, optimizer={"ema": 0.9}))
    before, after = (loss_of(preset) for preset in (motion_preset, result.preset))
    assert after < 0.95 * before
    paths = moved(motion_preset, result.preset)
    assert paths and all("temporal_modules" in path for path in paths)
    trained = TextToVideo.from_preset(str(result.preset))
    assert trained.generate("a cat", num_frames=3, num_steps=2).shape[1] == 3


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    make_recipe, motion_preset, stop_at, tmp_path
):
    tables = {"model": {"preset": str(motion_preset)}}
    stop_at(5)
    stopped = train(make_recipe(**tables))
    assert (stopped.steps, stopped.signal) == (5, signal.SIGTERM)
    finished = train(make_recipe(**tables), resume="auto")
    whole = train(make_recipe(**tables, run={"folder": str(tmp_path / "whole")}))
    assert losses(finished) == losses(whole)
    assert not moved(finished.preset, whole.preset)


def test_adapters_on_the_modules_are_merged(make_recipe, motion_preset):
    stage = {
        "name": "adapters",
        "trainable": "lora",
        "length": "4 steps",
        "learning_rate": {"peak": 1e-1},
        "lora": {"rank": 2, "layers": "temporal_modules.*attn"},
    }
    model = {"preset": str(motion_preset)}
    result = train(make_recipe(model=model, stage=[stage]))
    paths = moved(motion_preset, result.preset)
    assert paths and all("temporal_modules" in p and "/to_" in p for p in paths)
