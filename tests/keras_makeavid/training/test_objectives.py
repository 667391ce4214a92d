"""Runs that learn from pictures."""

import re

import numpy as np
import pytest
from keras import ops

from keras_makeavid import TextToVideo
from keras_makeavid.models import AutoencoderKL
from keras_makeavid.moving_shapes import MotionClips
from keras_makeavid.recipes import RecipeError
from keras_makeavid.training import image_objectives, read_metrics, train
from keras_makeavid.training.phases import with_parts
from keras_makeavid.video import write_image

PICTURES = {"source": "motions", "batch_size": 2, "samples_per_epoch": 4}
RATE = {"peak": 1e-2}


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """The scale of latents is that of 64 pictures."""
    monkeypatch.setattr(image_objectives, "_IMAGES", 64)


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


@pytest.mark.slow
def test_an_autoencoder_stage_trains_the_vae_and_scales_its_latents(
    make_recipe, preset, monkeypatch
):
    seen = set()
    posterior = AutoencoderKL.posterior
    monkeypatch.setattr(
        AutoencoderKL,
        "posterior",
        lambda vae, images: seen.add(vae.compute_dtype) or posterior(vae, images),
    )
    recipe = make_recipe(
        model={"dtype": "mixed_bfloat16"},
        data=PICTURES,
        optimizer={"ema": 0.5},
        stage=stage(objective="autoencoder", trainable="all"),
    )
    result = train(recipe)
    after, task = parts_of(result.preset)
    assert moved(parts_of(preset)[0], after) == {"vae"}
    # It trains in the recipe's dtype, scales latents in its own.
    assert seen == {"bfloat16", "float32"}
    assert task.vae.compute_dtype == "float32"
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


@pytest.mark.once
@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"objective": "autoencoder", "trainable": "all"}, "vae"),
        ({"objective": "image", "trainable": "spatial"}, "backbone"),
    ],
)
def test_a_folder_of_pictures_is_learnt_from(make_recipe, preset, tmp_path, keys, part):
    folder = tmp_path / "pictures"
    folder.mkdir()
    images, _ = MotionClips(size=100).images(range(4))
    for number, image in enumerate(images):
        write_image(folder / f"{number}.png", image)
        if keys["objective"] == "image":
            (folder / f"{number}.txt").write_text(f"a cat {number}")
    recipe = make_recipe(
        data={"source": str(folder), "batch_size": 2},
        stage=stage(**{**keys, "length": "1 epoch"}),
    )
    result = train(recipe)
    assert len(list(read_metrics(result.folder / "metrics.jsonl"))) == 2
    assert moved(parts_of(preset)[0], parts_of(result.preset)[0]) == {part}


def test_pictures_without_captions_are_named_before_the_run_begins(
    make_recipe, tmp_path
):
    write_image(tmp_path / "red.png", np.zeros((8, 8, 3), "uint8"))
    recipe = make_recipe(
        data={"source": str(tmp_path), "batch_size": 1},
        stage=stage(objective="image", trainable="spatial"),
    )
    with pytest.raises(ValueError, match=r"1 files have no caption.*red\.png"):
        train(recipe)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.once
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
        (
            {"objective": "painting"},
            "objective must be one of 'autoencoder', 'distillation'",
        ),
        (
            {"objective": "autoencoder"},
            "trainable must be 'all' with objective = 'autoencoder'. "
            "Received: 'temporal'",
        ),
        (
            {"objective": "image", "trainable": "all"},
            "trainable must be 'spatial', or a pattern of spatial layers",
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


def test_text_states_of_another_text_encoder_are_not_trained_on(make_recipe):
    pictures = stage(
        objective="image", trainable="spatial", text_encoder=True, data=PICTURES
    )
    videos = [{"name": "video", "length": "1 steps", "learning_rate": RATE}]
    with pytest.raises(ValueError, match="stage.pictures trains the text encoder"):
        train(make_recipe(stage=pictures + videos))


def test_what_is_of_the_unet_does_not_go_with_an_autoencoder(make_recipe):
    stages = stage(objective="autoencoder", trainable="all")
    with pytest.raises(ValueError, match="is of the UNet"):
        train(make_recipe(model={"rematerialise": True}, data=PICTURES, stage=stages))


def test_a_pattern_of_temporal_layers_is_refused_before_the_run_begins(
    make_recipe, tmp_path
):
    stages = stage(objective="image", trainable="spatial")
    stages += [{**stage(objective="image", trainable="conv")[0], "name": "late"}]
    with pytest.raises(ValueError, match="stage.late: Images pass no temporal layers"):
        train(make_recipe(data=PICTURES, stage=stages))
    assert not (tmp_path / "run").exists()


def test_a_preset_with_another_model_of_first_frames_is_refused(
    make_recipe, task, make_unet, tmp_path
):
    other = with_parts(task, image_backbone=make_unet(1, 4))
    other.save_to_preset(tmp_path / "two")
    recipe = make_recipe(
        model={"preset": str(tmp_path / "two")},
        data=PICTURES,
        stage=stage(objective="image", trainable="spatial"),
    )
    with pytest.raises(ValueError, match="image_backbone that makes its first frames"):
        train(recipe)


@pytest.mark.once
def test_the_model_of_first_frames_is_left_out_where_the_unet_makes_them(
    make_recipe, task, make_unet, tmp_path
):
    with_parts(task, image_backbone=make_unet(1, 4)).save_to_preset(tmp_path / "two")
    model = {"preset": str(tmp_path / "two"), "image_model": False}
    with pytest.raises(ValueError, match=r"of 'none'. Received: {'repeated': 1.0}"):
        train(make_recipe(model=model))
    made = train(make_recipe(model=model, loss={"given_frames": {"none": 1}}))
    trained = TextToVideo.from_preset(str(made.preset))
    assert trained.image_backbone is None
    assert trained.given_frames == {"none": 1.0}
    assert trained.generate("a cat", num_frames=2, num_steps=1).shape[1] == 2


def test_a_preset_that_is_not_square_is_refused(make_recipe, task, tmp_path):
    with_parts(task, height=64).save_to_preset(tmp_path / "wide")
    recipe = make_recipe(
        model={"preset": str(tmp_path / "wide")},
        data=PICTURES,
        stage=stage(objective="autoencoder", trainable="all"),
    )
    with pytest.raises(ValueError, match="Received: a preset of 64 x 128 pixels"):
        train(recipe)


@pytest.mark.once
def test_what_one_run_froze_trains_in_the_next(make_recipe, tmp_path):
    image = train(
        make_recipe(data=PICTURES, stage=stage(objective="image", trainable="spatial"))
    )
    recipe = make_recipe(
        run={"folder": str(tmp_path / "next")},
        model={"preset": str(image.preset)},
        data=PICTURES,
        stage=stage(objective="autoencoder", trainable="all"),
    )
    after, _ = parts_of(train(recipe).preset)
    assert moved(parts_of(image.preset)[0], after) == {"vae"}
