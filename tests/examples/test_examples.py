"""The example scripts run on small presets; `make demo` runs the demo itself."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
from keras import ops
from run_datasets import write_dataset

from keras_makeavid import TextToVideo

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
