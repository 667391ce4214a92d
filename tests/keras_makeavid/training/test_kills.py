"""A run that is killed at any moment, any number of times, gives the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orbax.checkpoint
import pytest
from run_datasets import write_dataset

from keras_makeavid.training import read_metrics

TESTS = Path(__file__).parents[2]
KILLS = 20
STEPS = 240
# So many steps are left after the last kill that no run ends before it.
LAST_KILL = 130
SECONDS = 120

# Checkpoints are written and read alike under every backend; PyTorch has nothing to
# compile in each of the processes.
pytestmark = [pytest.mark.slow, pytest.mark.once]


class Runs:
    """The process that forks runs."""

    def __init__(self):
        self.process = subprocess.Popen(
            # Without the script's folder, which has a keras_makeavid of its own.
            [sys.executable, "-P", TESTS / "forked_runs.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
        )

    def start(self, recipe) -> int:
        """The id of the process of a new run."""
        self.process.stdin.write(json.dumps(recipe) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def exit_code(self) -> int:
        """Wait for the run that was started."""
        return int(self.process.stdout.readline())


@pytest.fixture
def runs():
    runs = Runs()
    yield runs
    with runs.process:
        runs.process.stdin.close()


@pytest.fixture
def recipe(preset, tmp_path):
    """Two stages, and clips that make it roll back on the way."""
    dataset = write_dataset(tmp_path / "dataset", clips=12, spoiled=[3, 7])
    stage = {"trainable": "temporal", "learning_rate": {"peak": 1e-3}}
    return {
        "run": {"folder": str(tmp_path / "killed"), "seed": 1},
        "model": {"preset": str(preset)},
        "data": {"source": str(dataset), "frames": 3},
        "loss": {"caption_dropout": 0.2},
        "optimizer": {"ema": 0.9},
        "guard": {"patience": 2, "lr_factor": 0.9, "max_rollbacks": 1000},
        "checkpoints": {"every": "7 steps", "keep": 2},
        "stage": [
            {**stage, "name": "first", "length": "110 steps"},
            {**stage, "name": "second", "length": f"{STEPS - 110} steps"},
        ],
    }


def kill_somewhere(process_id, metrics, number, rng):
    """Kill a run while it starts, or some steps after it has gone on."""
    if number in (0, 3, 6, 9):
        time.sleep(rng.uniform(0, 2))
    else:
        changed = modified(metrics)
        wait_until(process_id, lambda: modified(metrics) != changed)
        wanted = rng.randint(0, LAST_KILL * (number + 1) // KILLS)
        wait_until(process_id, lambda: metrics.read_bytes().count(b"\n") >= wanted)
        time.sleep(rng.uniform(0, 0.02))
    os.kill(process_id, signal.SIGKILL)


def modified(path):
    return path.stat().st_mtime_ns if path.exists() else None


def wait_until(process_id, condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert alive(process_id), "the run ended before it was killed"
        assert time.monotonic() < end, "the run does not go on"
        time.sleep(0.0005)


def alive(process_id):
    # What has ended is there still until its parent waits for it.
    status = Path(f"/proc/{process_id}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def arrays_of_last_checkpoint(folder):
    newest = max((folder / "checkpoints").iterdir())
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(newest / "state")
    return newest.name, {name: np.asarray(value) for name, value in state.items()}


def test_a_run_killed_20_times_is_the_uninterrupted_one_to_the_bit(
    runs, recipe, tmp_path
):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    runs.start({**recipe, "run": {**recipe["run"], "folder": str(whole)}})
    assert runs.exit_code() == 0

    metrics = killed / "metrics.jsonl"
    rng = random.Random(0)
    reached = []
    for number in range(KILLS):
        process_id = runs.start(recipe)
        kill_somewhere(process_id, metrics, number, rng)
        assert runs.exit_code() == -signal.SIGKILL
        lines = list(read_metrics(metrics)) if metrics.exists() else []
        reached.append(lines[-1]["step"] if lines else 0)
    print(f"killed at the steps {reached}")
    runs.start(recipe)
    assert runs.exit_code() == 0

    assert not (killed / "checkpoints-unreadable").exists()
    assert metrics.read_bytes() == (whole / "metrics.jsonl").read_bytes()
    last = list(read_metrics(metrics))[-1]
    assert last["step"] == STEPS
    assert last["rollbacks"] > 0
    name, expected = arrays_of_last_checkpoint(whole)
    found_name, found = arrays_of_last_checkpoint(killed)
    assert found_name == name
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    presets = [path / "preset" / "model.weights.h5" for path in (killed, whole)]
    assert weights(presets[0]) == weights(presets[1])


def weights(path):
    import h5py

    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: found.update(
                {name: item[()].tobytes()} if isinstance(item, h5py.Dataset) else {}
            )
        )
    assert found
    return found
