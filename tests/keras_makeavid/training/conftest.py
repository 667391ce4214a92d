"""Small datasets and recipes for whole runs."""

import subprocess

import pytest
from run_datasets import write_dataset

from keras_makeavid.recipes import recipe_from_dict


@pytest.fixture(scope="session")
def run_dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("datasets") / "clean", clips=6)


@pytest.fixture
def make_recipe(preset, run_dataset, tmp_path):
    """Makes a recipe of one short stage; tables given are merged into it."""

    def make(**tables):
        values = {
            "run": {"folder": str(tmp_path / "run")},
            "model": {"preset": str(preset)},
            "data": {"source": str(run_dataset), "batch_size": 2, "frames": 3},
            "logs": {"tensorboard": False},
            "stage": [
                {
                    "name": "only",
                    "length": "4 epochs",
                    "learning_rate": {"peak": 1e-2, "warmup": "1 epoch"},
                }
            ],
        }
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
        pytest.skip("mounting needs more rights")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
