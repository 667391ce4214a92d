"""What is exported makes the videos that Keras makes."""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_makeavid import TextToVideo, exporting
from keras_makeavid.cli import main
from keras_makeavid.exporting import FORMATS, export
from keras_makeavid.models import AutoencoderKL
from keras_makeavid.presets import DEFAULT_PRESET

# OpenVINO tells its makers that it is imported, by a process of its own, but in CI.
os.environ["TF_BUILD"] = "1"
BACKEND = keras.config.backend()
HERE = [name for name, kind in FORMATS.items() if kind.backend == BACKEND]
PROMPT = {"negative": "dog", "seed": 3, "steps": 4, "guidance": 2.0}


@pytest.fixture(scope="module")
def preset(task, tmp_path_factory):
    """Frames of 16 x 16 pixels: each level of a VAE takes its time to export."""
    parts = task.backbone, task.preprocessor, task.text_encoder
    keras.utils.set_random_seed(0)
    vae = AutoencoderKL(block_channels=(8, 8, 8, 8), layers_per_block=1, groups=4)
    folder = tmp_path_factory.mktemp("presets") / "smaller"
    how = {"num_frames": 3, "height": 16, "width": 16, "num_steps": 7}
    if BACKEND == "torch":
        # As the model in the box; elsewhere as the published ones.
        how["given_frames"] = {"first": 1.0}
    TextToVideo(*parts, vae, **how).save_to_preset(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def each_part_is_traced_once(tmp_path_factory):
    """Every precision begins with the same ONNX or SavedModel of a part."""
    folder = tmp_path_factory.mktemp("traced")
    trace, archive = exporting._trace, exporting._archive

    def kept(write, part, path, extra):
        axes = extra.values() if isinstance(extra, dict) else part.inputs.values()
        shapes = "-".join("x".join(map(str, sizes)) for sizes in axes)
        made = folder / f"{shapes} of {type(part.layer).__name__}"
        if not made.exists():
            write(part, made, extra)
        (shutil.copy if made.is_file() else shutil.copytree)(made, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "_trace", functools.partial(kept, trace))
        patch.setattr(exporting, "_archive", functools.partial(kept, archive))
        yield


@pytest.fixture(scope="module", params=HERE)
def exported(request, preset, tmp_path_factory):
    """A folder of each format that this backend writes, and its `run.py`."""
    folder = tmp_path_factory.mktemp("exported") / request.param
    export(preset, folder, request.param)
    return folder, _runner(folder)


# Models that OpenVINO has compiled live as long as the process. Each puts a stack for
# signals in the place of the one before, and as it goes puts that one back, which may
# be gone by then: the next signal would end the process.
ALIVE = []


def _runner(folder):
    spec = importlib.util.spec_from_file_location("run", folder / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    load = module.load

    @functools.cache
    def load_and_keep(part):
        ALIVE.append(load(part))
        return ALIVE[-1]

    module.load = load_and_keep
    return module


def _difference(made, expected):
    expected = keras.ops.convert_to_numpy(expected)
    assert made.shape == expected.shape
    return np.abs(made - expected).max() / np.ptp(expected)


def _by_keras(preset, frames, **size):
    task = TextToVideo.from_preset(preset)
    latents = task.generate(
        "a cat",
        negative_prompts="dog",
        seed=3,
        num_steps=4,
        guidance_scale=2.0,
        num_frames=frames,
        output="latents",
        **size,
    )
    return keras.ops.convert_to_numpy(task.vae.decode(latents))[0]


def test_the_script_makes_the_video_that_keras_makes(exported, preset):
    folder, runner = exported
    assert runner.SETTINGS["defaults"]["steps"] == 7
    made = runner.generate("a cat", **PROMPT, frames=3, height=16, width=16)
    assert _difference(made, _by_keras(preset, 3)) < 1e-3


def test_one_file_serves_other_frames_and_sizes(exported, preset):
    folder, runner = exported
    if not FORMATS[folder.name].any_size:
        fixed = {"frames": 3, "height": 16, "width": 16}
        assert runner.SETTINGS["fixed"] == fixed
        assert not fixed.keys() & runner.SETTINGS["defaults"].keys()
        return
    made = runner.generate("a cat", **PROMPT, frames=5, height=24, width=16)
    assert _difference(made, _by_keras(preset, 5, height=24, width=16)) < 1e-3


def test_each_part_computes_what_keras_computes(exported, preset):
    _, runner = exported
    task, random = TextToVideo.from_preset(preset), np.random.default_rng(0)
    ids = task.preprocessor.tokenize(["dog", "a cat"])
    states = np.array(keras.ops.convert_to_numpy(task.encode_prompts(["dog", "a cat"])))
    assert _difference(runner.load("text_encoder")(ids), states) < 1e-4
    times = np.array([999, 999], "float32")
    for name, frames in (("unet", (3,)), ("image_unet", ())):
        sample = random.standard_normal((2, *frames, 2, 2, 9), "float32")
        inputs = {"sample": sample, "timesteps": times, "context": states}
        expected = task.backbone({k: keras.ops.array(v) for k, v in inputs.items()})
        assert _difference(runner.load(name)(sample, times, states), expected) < 1e-4
    latents = random.standard_normal((1, 2, 2, 4), "float32")
    decoded = runner.load("vae_decoder")(latents)
    assert _difference(decoded, task.vae.decode(keras.ops.array(latents))) < 1e-4
    images = random.uniform(-1, 1, (1, 16, 16, 3)).astype("float32")
    encoded = runner.load("vae_encoder")(images)
    assert _difference(encoded, task.vae.encode(keras.ops.array(images))) < 1e-4


@pytest.mark.skipif(BACKEND != "torch", reason="no format of the command's")
def test_the_command_writes_a_folder_whose_script_needs_neither_keras_nor_torch(
    preset, tmp_path, capsys
):
    folder = tmp_path / "exported"
    assert main(["export", str(preset), str(folder)]) == 0
    assert f"python {folder}/run.py" in capsys.readouterr().out
    lines = (folder / "run.py").read_text().splitlines()
    assert len(lines) < 80
    # As if they were not installed.
    hide = "import sys, runpy; sys.modules.update(keras=None, torch=None, jax=None); "
    hide += "sys.modules.update(keras_makeavid=None, tensorflow=None); "
    hide += "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    words = [folder / "run.py", "a cat", tmp_path / "cat.png", "--steps", "2"]
    words += ["--frames", "2"]
    subprocess.run([sys.executable, "-c", hide, *words], check=True)
    with Image.open(tmp_path / "cat.png") as picture:
        assert (picture.n_frames, picture.size) == (2, (16, 16))
        picture.seek(1)
        assert picture.info["duration"] == 125


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_rounded_weights_make_about_the_same_video(
    exported, preset, tmp_path, precision
):
    folder, _ = exported
    if precision not in FORMATS[folder.name].precisions:
        with pytest.raises(ValueError, match=f"precision of {folder.name} must be"):
            export(preset, tmp_path / "small", folder.name, precision=precision)
        return
    export(preset, tmp_path / "small", folder.name, precision=precision)
    small = _runner(tmp_path / "small")
    made = small.generate("a cat", **PROMPT, frames=3, height=16, width=16)
    assert 0 < _difference(made, _by_keras(preset, 3)) < 0.1


@pytest.mark.parametrize("name", HERE)
def test_rounded_weights_take_less_room(name, tmp_path):
    task, kind, sizes = TextToVideo.from_preset(DEFAULT_PRESET), FORMATS[name], {}
    part = exporting._parts(task)["text_encoder"]
    for precision in kind.precisions:
        folder = tmp_path / precision
        folder.mkdir()
        kind.write(part, folder / "text_encoder", task, precision)
        sizes[precision] = sum(path.stat().st_size for path in folder.iterdir())
    assert all(sizes[p] < 0.6 * sizes["float32"] for p in kind.precisions[1:]), sizes


@pytest.mark.skipif(not HERE, reason="no format is written under it")
def test_an_adapter_for_few_steps_is_told_to_be_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exporting, "_parts", lambda task: {})
    export(DEFAULT_PRESET, tmp_path / "x", HERE[0])
    assert "adapter for few steps is left out" in capsys.readouterr().out


def test_what_a_format_cannot_is_refused(preset, tmp_path):
    with pytest.raises(ValueError, match="format must be one of"):
        export(preset, tmp_path / "x", "coreml")
    for name, kind in FORMATS.items():
        if kind.backend != BACKEND:
            with pytest.raises(
                ValueError,
                match=rf"KERAS_BACKEND for {name} must be one of \['{kind.backend}'\]",
            ):
                export(preset, tmp_path / "x", name)
        else:
            with pytest.raises(ValueError, match="draws no noise in its steps"):
                export(preset, tmp_path / "x", name, scheduler="euler-ancestral")
    assert not list(tmp_path.iterdir())
