"""The model in the box."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import pytest

import keras_makeavid
import weights_tools
from keras_makeavid import TextToVideo, models, moving_shapes
from keras_makeavid.cli import main
from keras_makeavid.presets import DEFAULT_PRESET, PRESETS, preset_folder

ROOT = Path(keras_makeavid.__file__).parents[1]


@pytest.fixture(scope="module")
def task():
    return TextToVideo.from_preset(DEFAULT_PRESET)


def evaluated(task, count, **options):
    """The evaluation of `MODEL_CARD.md`: one video a prompt, of fewer steps."""
    videos = moving_shapes.generate_videos(
        task, moving_shapes.default_prompts(count), num_seeds=1, num_steps=6, **options
    )
    return moving_shapes.evaluate(videos)


@pytest.mark.once
def test_the_task_lists_it_and_says_what_it_is():
    listed = TextToVideo.presets[DEFAULT_PRESET]["metadata"]
    assert "moving shapes" in listed["description"]
    assert models.UNetPseudo3D.presets[DEFAULT_PRESET]["metadata"] == listed


@pytest.mark.once
def test_its_listed_size_is_its_size():
    parts = weights_tools.inspect(DEFAULT_PRESET)
    count = sum(part.parameters for part in parts.values())
    assert PRESETS[DEFAULT_PRESET]["metadata"]["params"] == count


@pytest.mark.once
def test_it_is_smaller_than_26_mb_and_a_folder_of_plain_files():
    paths = list(Path(preset_folder(DEFAULT_PRESET)).rglob("*"))
    assert sum(path.stat().st_size for path in paths) < 26e6
    assert not any(path.is_symlink() for path in paths)


LOADS_OFFLINE = f"""
import socket
def refuse(*arguments): raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = refuse
from keras_makeavid import TextToVideo, __file__
task = TextToVideo.from_preset({DEFAULT_PRESET!r})
print(__file__)
print(task.num_frames, task.height, task.width)
"""


@pytest.mark.once
def test_it_loads_where_nothing_but_the_wheel_can_be_reached(tmp_path):
    source, wheels, unpacked = (tmp_path / name for name in ("source", "wheels", "it"))
    for package in ("keras_makeavid", "weights_tools"):
        shutil.copytree(ROOT / package, source / package)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", source, "--wheel-dir", wheels]
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet")
    subprocess.run([*build, *offline], check=True)
    (wheel,) = wheels.iterdir()
    zipfile.ZipFile(wheel).extractall(unpacked)
    run = subprocess.run(
        [sys.executable, "-c", LOADS_OFFLINE],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
    )
    package = unpacked / "keras_makeavid" / "__init__.py"
    assert run.stdout == f"{package}\n16 64 64\n", run.stderr


@pytest.mark.once
def test_names_of_no_preset_are_left_as_they_are():
    assert preset_folder("runs/small") == "runs/small"


@pytest.mark.slow
def test_it_shows_what_it_is_asked_for(task):
    # Every motion in each half. The other backends compute the same from the same
    # noise: half of the videos show that.
    measured = evaluated(task, 12 if keras.config.backend() == "torch" else 6)
    # One wrong video of twelve is eight in a hundred.
    for split in ("seen", "held_out"):
        part = measured.of_split(split)
        assert part.rate("colour") == 1
        assert part.rate("motion") >= 0.9
        assert part.rate("shape") >= 0.9
    assert measured.shuffled().rate("motion") < 0.5


@pytest.mark.slow
def test_in_four_steps_it_shows_the_same():
    task = TextToVideo.from_preset(DEFAULT_PRESET, few_steps=True)
    count = 12 if keras.config.backend() == "torch" else 6
    videos = moving_shapes.generate_videos(
        task, moving_shapes.default_prompts(count), num_seeds=1
    )
    measured = moving_shapes.evaluate(videos)
    for split in ("seen", "held_out"):
        part = measured.of_split(split)
        assert part.rate("colour") == 1
        assert part.rate("motion") >= 0.9
        assert part.rate("shape") >= 0.9


@pytest.mark.once
@pytest.mark.slow
def test_it_sets_a_hint_in_motion(task):
    found = evaluated(task, 4, hints=True)
    assert min(result.hint_psnr for result in found.results) >= 20
    assert found.rate("motion") >= 0.875


@pytest.mark.once
@pytest.mark.slow
def test_without_temporal_parts_it_moves_by_chance(task):
    found = evaluated(task, 6, spatial_only=True)
    assert found.rate("colour") >= 0.9
    assert found.rate("motion") <= 0.34


@pytest.mark.once
@pytest.mark.slow
def test_it_makes_videos_of_twice_the_frames_that_it_learnt_from(task):
    prompts = moving_shapes.default_prompts(4)
    videos = [
        *moving_shapes.generate_videos(
            task, prompts, num_seeds=1, num_frames=32, num_steps=6
        )
    ]
    assert {len(video.frames) for video in videos} == {32}
    assert moving_shapes.evaluate(videos).rate("motion") >= 0.875


def test_its_vae_keeps_what_it_needs_to(task):
    assert moving_shapes.vae_psnr(task) >= 33


SHORTEST = ("--steps", "1", "--frames", "2")


@pytest.mark.once
def test_a_prompt_beyond_its_world_gets_a_note(capsys, tmp_path):
    out = tmp_path / "cat.gif"
    assert main(["generate", "a cat", *SHORTEST, "--out", str(out)]) == 0
    note = capsys.readouterr().err
    assert note.startswith("note: 'a cat' lies outside")
    assert "circle" in note and "moving left" in note
    assert out.is_file()


@pytest.mark.once
def test_a_prompt_of_its_world_gets_none(capsys, tmp_path):
    prompt, out = "a red star moving left", tmp_path / "star.gif"
    assert main(["generate", prompt, *SHORTEST, "--out", str(out)]) == 0
    assert "note" not in capsys.readouterr().err


@pytest.mark.once
def test_info_tells_what_it_holds(capsys):
    assert main(["info", DEFAULT_PRESET]) == 0
    assert "parameters: " in capsys.readouterr().out
