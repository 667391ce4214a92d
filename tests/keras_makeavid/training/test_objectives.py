"""Runs that learn from pictures."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_makeavid import TextToVideo
from keras_makeavid.data import MotionClips
from keras_makeavid.recipes import RecipeError
from keras_makeavid.training import read_metrics, train

PICTURES = {"source": "motions", "batch_size": 2, "samples_per_epoch": 4}
RATE = {"peak": 1e-2}


def parts_of(preset):
    task = TextToVideo.from_preset(str(preset))
    return {
        part: [ops.convert_to_numpy(v) for v in getattr(task, part).variables]
        for part in ("backbone", "vae", "text_encoder")
    }, task


def moved(before, after):
    return {
        part
        for part in before
        if any(
            not np.array_equal(a, b)
            for a, b in zip(before[part], after[part], strict=True)
        )
    }


def stage(**keys):
    return [{"name": "pictures", "length": "2 steps", "learning_rate": RATE, **keys}]


def test_an_autoencoder_stage_trains_the_vae_and_scales_its_latents(
    make_recipe, preset
):
    recipe = make_recipe(
        data=PICTURES,
        optimizer={"ema": 0.5},
        stage=stage(objective="autoencoder", trainable="all"),
    )
    result = train(recipe)
    after, task = parts_of(result.preset)
    assert moved(parts_of(preset)[0], after) == {"vae"}
    images, _ = MotionClips(size=128).images(range(64))
    latents = task.vae.encode_video(images, chunk_size=64)
    assert abs(latents.std() - 1) < 0.25


def test_an_image_stage_trains_the_spatial_unet_and_the_text_encoder(
    make_recipe, preset
):
    recipe = make_recipe(
        data=PICTURES,
        loss={"caption_dropout": 0.5, "full_mask_share": 0.5},
        stage=stage(objective="image", trainable="spatial", text_encoder=True),
    )
    result = train(recipe)
    before, _ = parts_of(preset)
    after, task = parts_of(result.preset)
    assert moved(before, after) == {"backbone", "text_encoder"}
    for variable, old in zip(task.backbone.variables, before["backbone"], strict=True):
        if "temporal" in variable.path:
            np.testing.assert_array_equal(ops.convert_to_numpy(variable), old)


@pytest.mark.skipif(
    keras.config.backend() != "torch",
    reason="the same code everywhere; compiling takes long elsewhere",
)
@pytest.mark.parametrize(
    "keys",
    [
        {"objective": "autoencoder", "trainable": "all"},
        {"objective": "image", "trainable": "spatial", "text_encoder": True},
    ],
)
def test_a_run_on_pictures_is_continued_to_the_bit(
    make_recipe, stop_at, tmp_path, keys
):
    def recipe(folder):
        return make_recipe(
            run={"folder": str(tmp_path / folder)},
            data=PICTURES,
            stage=stage(**{**keys, "length": "4 steps"}),
        )

    whole = train(recipe("whole"))
    stop_at(3)
    assert train(recipe("parts")).preset is None
    continued = train(recipe("parts"), resume="auto")
    runs = [list(read_metrics(r.folder / "metrics.jsonl")) for r in (whole, continued)]
    assert runs[0] == runs[1]
    assert not moved(*(parts_of(r.preset)[0] for r in (whole, continued)))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"objective": "painting"}, "objective must be one of 'video', 'image'"),
        (
            {"objective": "autoencoder"},
            "trainable must be 'all' with objective = 'autoencoder'. "
            "Received: 'temporal'",
        ),
        (
            {"objective": "image"},
            "trainable must be 'spatial', or a pattern of spatial layers",
        ),
        ({"text_encoder": True}, "text_encoder goes with objective = 'image'"),
        (
            {"objective": "image", "trainable": "spatial"},
            "objective of 'image' needs data.samples_per_epoch",
        ),
        (
            {"objective": "image", "trainable": "spatial", "data": {"source": "x"}},
            "objective of 'image' needs data.source = 'motions'. Received: 'x'",
        ),
    ],
)
def test_what_does_not_go_together_is_an_error_of_the_recipe(
    make_recipe, keys, message
):
    with pytest.raises(RecipeError, match=re.escape(message)):
        make_recipe(data={"source": "motions"}, stage=stage(**keys))


def test_an_autoencoder_needs_a_recipe_of_its_own(make_recipe):
    stages = stage(objective="autoencoder", trainable="all")
    stages += [{**stage(objective="image", trainable="spatial")[0], "name": "image"}]
    with pytest.raises(ValueError, match="a recipe of its own.*autoencoder, image"):
        train(make_recipe(data=PICTURES, stage=stages))
