"""What JAX has compiled for a run is there for the next one."""

import os
import subprocess
import sys

import keras
import pytest

from keras_makeavid.recipes import recipe_as_dict

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "jax", reason="JAX keeps what it has compiled"
)

# Keras's name of the compiled step.
FOUND = "Persistent compilation cache hit for 'jit_train_step'"
TOLD = "stage only: its first step was compiled, or found compiled, in "


@pytest.fixture
def start(make_recipe, tmp_path):
    """Starts the same recipe, in a folder of its own, as a process of its own."""
    values = recipe_as_dict(make_recipe())
    cache = tmp_path / "cache"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("JAX_")},
        "JAX_PLATFORMS": "cpu",
        "JAX_LOG_COMPILES": "true",
        "XDG_CACHE_HOME": str(cache),
    }

    def run(name):
        data, preset = values["data"]["source"], values["model"]["preset"]
        recipe = tmp_path / f"{name}.toml"
        recipe.write_text(
            f'[run]\nfolder = "{tmp_path / name}"\n[model]\npreset = "{preset}"\n'
            f'[data]\nsource = "{data}"\nbatch_size = 2\nframes = 3\n'
            '[[stage]]\nname = "only"\nlength = "2 steps"\nlearning_rate.peak = 1e-3\n'
        )
        words = [sys.executable, "-m", "keras_makeavid", "train", recipe]
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done

    return run


def test_the_second_start_of_a_recipe_finds_its_step_compiled(start, tmp_path):
    # A program that a killed process has kept, without the date that JAX reads.
    kept = tmp_path / "cache" / "keras_makeavid" / "jax" / "jit_other-0123-cache"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"a program")
    first, second = start("first"), start("second")
    assert FOUND not in first.stderr
    assert FOUND in second.stderr
    assert TOLD in first.stdout
