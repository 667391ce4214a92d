"""The example scripts run on small presets; `make demo` runs the demo itself."""

import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from keras import ops
from run_datasets import write_dataset

from keras_makeavid import TextToVideo
from keras_makeavid.presets import DEFAULT_PRESET
from keras_makeavid.recipes import load_recipe

EXAMPLES = Path(__file__).parents[2] / "examples"


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


APP = """
import runpy, sys
from pathlib import Path
import numpy as np
from keras_makeavid import TextToVideo

app, preset, folder = sys.argv[1:]
task = TextToVideo.from_preset(preset)
page = runpy.run_path(app)["build_app"](task, Path(folder))
(button,) = page.fns.values()
assert len(button.inputs) == 14
hint = np.zeros((48, 64, 3), "uint8")
values = ["a cat", "", hint, None, 2, 5, 5, 4, 128, 128, 8, 3, "dpm++2m", "gif"]
print(button.fn(*values))
"""


def test_the_button_of_the_app_generates_from_everything_in_the_form(preset, tmp_path):
    # In a process of its own: Gradio leaves sockets and event loops behind.
    arguments = [sys.executable, "-c", APP, EXAMPLES / "app.py", preset, tmp_path]
    run = subprocess.run(arguments, capture_output=True, text=True)
    path = tmp_path / "3.gif"
    assert run.stdout.splitlines()[-1:] == [str((None, str(path)))], run.stderr
    assert path.read_bytes()[:3] == b"GIF"
