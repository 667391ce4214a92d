"""The example scripts run on small presets; `make demo` runs the demo itself."""

import runpy
import subprocess
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
    folder = EXAMPLES / "fine_tune"
    draw = runpy.run_path(str(folder / "draw_clips.py"))
    draw["main"].__globals__["COUNT"] = 4
    draw["main"](["clips"])
    preset = ("--preset", DEFAULT_PRESET)
    assert main(["encode", "clips", "dataset", *preset, "--fps", "8"]) == 0
    short = ("--set", "stage.all.length=4 steps", "--set", "data.batch_size=2")
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


APP = """
import runpy, sys
from pathlib import Path
import gradio_client
import numpy as np
from keras_makeavid import TextToVideo
from keras_makeavid.video import write_image

app, preset, folder = sys.argv[1:]
task = TextToVideo.from_preset(preset)
page = runpy.run_path(app)["build_app"](task, Path(folder))
address = page.launch(prevent_thread_lock=True, quiet=True, show_error=True)[1]
client = gradio_client.Client(address, verbose=False)
hint, text = Path(folder, "hint.png"), Path(folder, "text.png")
write_image(hint, np.zeros((48, 64, 3), "uint8"))
text.write_text("no picture")
form = dict(
    prompt="a cat", hint=gradio_client.handle_file(hint), steps=2, guidance=5,
    image_guidance=5, frames=4, height=128, width=128, seed=3, form="gif",
    negative="", mask=None,
)
wrong = [
    dict(prompt=5), dict(prompt=["a cat"]), dict(prompt=None), dict(negative=5),
    dict(seed=None), dict(seed=""), dict(seed="seven"), dict(seed=1.5), dict(seed=-1),
    dict(seed=True), dict(seed=2**70), dict(guidance=None), dict(guidance=""),
    dict(guidance="high"), dict(guidance=99),
    dict(frames=2.5), dict(frames=10**9), dict(fps=[]), dict(scheduler=None),
    dict(form=["mp4"]), dict(hint=gradio_client.handle_file(text)), dict(hint=5),
    dict(mask=gradio_client.handle_file(text)),
]
for values in wrong:
    try:
        print(values, client.predict(**{**form, **values}, api_name="/generate"))
    except Exception as error:
        print(" ".join(str(error).split()))
jobs = [client.submit(**form, api_name="/generate") for _ in range(2)]
for job in jobs:
    video, picture = job.result()
    print(video, Path(picture).read_bytes()[:3])
print(sorted(path.name for path in Path(folder).glob("*/*")))
page.close(verbose=False)
"""

REFUSED = [
    "Prompt must be text. Received: 5",
    "Prompt must be text. Received: ['a cat']",
    "Prompt must be text. Received: None",
    "Negative prompt must be text. Received: 5",
    "Seed must be an integer from 0. Received: None",
    "Seed must be an integer from 0. Received: ''",
    "Seed must be an integer from 0. Received: 'seven'",
    "Seed must be an integer from 0. Received: 1.5",
    "Seed must be an integer from 0. Received: -1",
    "Seed must be an integer from 0. Received: True",
    "seed must be None, an integer from 0",
    "Guidance must be a number from 1 to 30. Received: None",
    "Guidance must be a number from 1 to 30. Received: ''",
    "Guidance must be a number from 1 to 30. Received: 'high'",
    "Guidance must be a number from 1 to 30. Received: 99",
    "num_frames must be a positive integer. Received: 2.5",
    "Frames must be a number from 1 to 48. Received: 1000000000",
    "Frames a second must be a number from 1 to 30. Received: []",
    "Scheduler must be one of ['dpm++2m', ",
    "Format must be one of ['mp4', 'gif', 'webp']. Received: ['mp4']",
    "text.png is not a PNG, JPEG, WebP, GIF or BMP picture",
    "Input should be a valid dictionary",
    "text.png is not a PNG, JPEG, WebP, GIF or BMP picture",
]


def test_the_page_generates_by_its_api_and_names_what_is_wrong(preset, tmp_path):
    # In a process of its own: Gradio leaves sockets and event loops behind.
    arguments = [sys.executable, "-c", APP, EXAMPLES / "app.py", preset, tmp_path]
    run = subprocess.run(arguments, capture_output=True, text=True)
    *refused, first, second, files = run.stdout.splitlines() or [run.stderr]
    assert len(refused) == len(REFUSED), run.stderr
    for line, expected in zip(refused, REFUSED, strict=True):
        assert expected in line
    assert first == second == "None b'GIF'", run.stderr
    # Two requests with one seed have a file each.
    assert files == "['3.gif', '3.gif']"


def test_the_page_shows_the_model_in_the_box_unless_told(monkeypatch):
    script = runpy.run_path(str(EXAMPLES / "app.py"))
    launched = []
    monkeypatch.setitem(
        script["main"].__globals__,
        "build_app",
        lambda task, folder: launched.append(task) or launched[0],
    )
    monkeypatch.setattr(TextToVideo, "launch", lambda *_, **__: None, raising=False)
    monkeypatch.setattr(sys, "argv", ["app.py"])
    script["main"]()
    assert (launched[0].num_frames, launched[0].fps) == (16, 8)
