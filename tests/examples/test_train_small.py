"""The whole published order in small, by the commands of the package."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import weights_tools
from keras_makeavid import TextToVideo

RUN = Path(__file__).parents[2] / "examples" / "train_small" / "run.py"


@pytest.mark.slow
@pytest.mark.skipif(
    keras.config.backend() != "torch",
    reason="the same commands everywhere; compiling takes long elsewhere",
)
def test_the_way_from_nothing_to_an_evaluated_preset(tmp_path):
    command = [sys.executable, RUN, tmp_path / "run", "--short"]
    first = subprocess.run(command, capture_output=True, text=True)
    # What two updates a stage have taught is below the bar.
    assert first.returncode == 1, first.stderr
    assert "below the bar: colour of seen triples" in first.stderr
    preset = tmp_path / "run" / "makeavid_motions_small"
    parts = weights_tools.inspect(preset).values()
    assert {dtype for part in parts for dtype in part.dtypes} == {"float16"}
    assert sum(path.stat().st_size for path in preset.rglob("*")) < 20e6
    task = TextToVideo.from_preset(str(preset))
    assert task.generate("a red star moving left", num_steps=1, seed=0).shape == (
        *(1, 16, 64, 64, 3),
    )
    evaluation = json.loads((tmp_path / "run/evaluation/evaluation.json").read_text())
    assert len(evaluation["videos"]) == 2

    again = subprocess.run(command, capture_output=True, text=True)
    # It is below the bar still.
    assert again.returncode == 1
    assert all(line.endswith(": is there") for line in again.stdout.splitlines())

    sweep = [sys.executable, RUN.with_name("sweep.py"), tmp_path / "run", "--short"]
    swept = subprocess.run([*sweep, "--only", "base"], capture_output=True, text=True)
    assert swept.returncode == 0, swept.stderr
    assert swept.stdout.splitlines()[-1].startswith("| as it is | ")
    assert (tmp_path / "run/sweep/sweep.md").exists()
