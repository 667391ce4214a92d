"""The example scripts run on small presets; `make demo` runs the demo itself."""

import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from keras import ops
from run_datasets import write_dataset

from keras_makeavid import TextToVideo
from keras_makeavid.cli import main
from keras_makeavid.moving_shapes import MotionClips
from keras_makeavid.presets import DEFAULT_PRESET
from keras_makeavid.recipes import load_recipe

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.filterwarnings("ignore:.*do not tell what encoded them")
def test_train_writes_a_preset_whose_temporal_weights_have_moved(
    preset, task, tmp_path, monkeypatch
):
    dataset = write_dataset(tmp_path / "dataset", clips=2)
    out = tmp_path / "trained"
    arguments = [preset, dataset, out, "--epochs", "1", "--frames", "3"]
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / "train.py"), run_name="__main__")
    trained = TextToVideo.from_preset(str(out)).backbone
    moved = {
        weight.path
        for weight, before in zip(trained.weights, task.backbone.weights, strict=True)
        if not np.array_equal(*map(ops.convert_to_numpy, (weight, before)))
    }
    assert moved
    assert all("temporal" in path for path in moved)


def test_train_is_a_script_of_under_80_lines():
    assert len((EXAMPLES / "train.py").read_text().splitlines()) < 80


def read_16_frames(path):
    capture = cv2.VideoCapture(str(path))
    return np.stack([capture.read()[1] for _ in range(16)]).astype("int")


def test_clips_to_fine_tune_with_are_new_ones_and_known_ones(tmp_path):
    script = runpy.run_path(str(EXAMPLES / "fine_tune" / "draw_clips.py"))
    script["main"].__globals__["COUNT"] = 3
    script["main"]([str(tmp_path)])
    captions = {path.stem: path.read_text() for path in tmp_path.glob("*.txt")}
    assert {path.stem for path in tmp_path.glob("*.mp4")} == set(captions)
    new = [text for stem, text in captions.items() if stem.startswith("new")]
    assert len(new) == 3 == len(captions) - len(new)
    assert all(text.endswith(" circling") for text in new)
    frames = read_16_frames(tmp_path / "new_00.mp4")
    assert frames.shape == (16, 64, 64, 3)
    # It goes round: wide and high, and back to where it began.
    shown = np.abs(frames - frames[:, :1, :1]).sum(-1) > 100
    centres = np.array([np.argwhere(frame).mean(0) for frame in shown])
    assert (np.ptp(centres, axis=0) > 20).all()
    assert np.abs(centres[0] - centres[-1]).max() < 2


def test_the_recipe_to_fine_tune_with_starts_from_the_preset_in_the_box():
    recipe = load_recipe(str(EXAMPLES / "fine_tune" / "recipe.toml"))
    assert recipe.model.preset == DEFAULT_PRESET


def test_the_count_of_what_goes_round_counts_just_that():
    circling = runpy.run_path(str(EXAMPLES / "fine_tune" / "draw_clips.py"))["circling"]
    script = runpy.run_path(str(EXAMPLES / "fine_tune" / "measure.py"))
    counted = [script["goes_round"](circling(number)[0]) for number in range(48)]
    assert sum(counted) >= 47
    clips = MotionClips(seed=1)
    assert not any(script["goes_round"](clips.clip(n)[0]) for n in range(100))
    assert not script["goes_round"](np.zeros((16, 64, 64, 3), "uint8"))


@pytest.mark.slow
def test_the_small_model_is_fine_tuned_by_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    generate = TextToVideo.generate
    monkeypatch.setattr(
        TextToVideo,
        "generate",
        lambda task, *values, **options: generate(
            task, *values, **{**options, "num_steps": 1}
        ),
    )
    folder = EXAMPLES / "fine_tune"
    draw = runpy.run_path(str(folder / "draw_clips.py"))
    draw["main"].__globals__["COUNT"] = 2
    draw["main"](["clips"])
    preset = ("--preset", DEFAULT_PRESET)
    assert main(["encode", "clips", "dataset", *preset, "--fps", "8"]) == 0
    short = ("--set", "stage.all.length=2 steps", "--set", "data.batch_size=2")
    short += ("--set", "stage.all.learning_rate.warmup=1 steps")
    assert main(["train", str(folder / "recipe.toml"), *short]) == 0
    trained, before = map(TextToVideo.from_preset, ("circling/preset", DEFAULT_PRESET))
    weights = zip(trained.backbone.weights, before.backbone.weights, strict=True)
    arrays = (map(ops.convert_to_numpy, pair) for pair in weights)
    assert any((after != first).any() for after, first in arrays)
    measure = runpy.run_path(str(folder / "measure.py"))
    measure["main"](["circling/preset", "circling.png"])
    assert capsys.readouterr().out.splitlines()[-1].endswith(" of 12 go round")
    assert cv2.imread("circling.png").shape == (6 * 64, 16 * 64, 3)


VARIANTS = runpy.run_path(str(EXAMPLES / "train_small" / "sweep.py"))["VARIANTS"]


@pytest.mark.parametrize("setting", VARIANTS.values(), ids=VARIANTS)
def test_every_setting_of_the_sweep_is_one_of_its_recipe(setting):
    path = str(EXAMPLES / "train_small" / "sweep.toml")
    settings = [setting] if setting else []
    as_it_is = load_recipe(path)
    assert (load_recipe(path, settings) == as_it_is) == (not settings)
