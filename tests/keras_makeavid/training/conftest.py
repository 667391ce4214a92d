"""Small datasets and recipes for whole runs."""

import contextlib
import os
import signal
import subprocess

import pytest
from run_datasets import write_dataset

from keras_makeavid.recipes import recipe_from_dict
from keras_makeavid.training import train
from keras_makeavid.training.run_callback import RunCallback


@pytest.fixture(scope="session")
def run_dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("datasets") / "clean", clips=6)


def _smallest(folder, preset, dataset):
    """The tables of a recipe of one short stage."""
    return {
        "run": {"folder": str(folder)},
        "model": {"preset": str(preset)},
        "data": {"source": str(dataset), "batch_size": 2, "frames": 3},
        "logs": {"tensorboard": False},
        "stage": [
            {
                "name": "only",
                "length": "4 epochs",
                "learning_rate": {"peak": 1e-2, "warmup": "1 epoch"},
            }
        ],
    }


@pytest.fixture(scope="session")
def finished_run(preset, run_dataset, tmp_path_factory):
    """The folder of a run of that recipe: to read, or to copy."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(recipe_from_dict(_smallest(folder, preset, run_dataset)))
    return folder


@pytest.fixture
def make_recipe(preset, run_dataset, tmp_path):
    """Makes a recipe of one short stage; tables given are merged into it."""

    def make(**tables):
        values = _smallest(tmp_path / "run", preset, run_dataset)
        for name, table in tables.items():
            shared = values.get(name, {})
            values[name] = table if name == "stage" else {**shared, **table}
        return recipe_from_dict(values)

    return make


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True).returncode:
        if "CI" in os.environ:
            pytest.fail("CI must run as a user who may mount: sudo, or a container")
        pytest.skip("mounting needs more rights")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def at_each_step(monkeypatch):
    """Calls the last function given with the number of each step, as the step ends."""
    on_end = RunCallback.on_train_batch_end

    def register(action):
        def act_first(self, batch, logs=None):
            action(self._phase.first_step + self.position.step + 1)
            on_end(self, batch, logs)

        monkeypatch.setattr(RunCallback, "on_train_batch_end", act_first)

    return register


@pytest.fixture
def stop_at(at_each_step):
    """Sends this process a signal at the end of a step of a run, once for each."""
    wanted = []

    def act(step):
        if step in wanted:
            wanted.remove(step)
            # The run at work handles it: this comes from nowhere else.
            signal.raise_signal(signal.SIGTERM)

    at_each_step(act)
    return wanted.append


@pytest.fixture
def fill_disk():
    """Fills the disk of a file by making that file larger."""

    def fill(path):
        with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    return fill
