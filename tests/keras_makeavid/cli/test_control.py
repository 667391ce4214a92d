"""Control over time on the command line."""

import numpy as np
import pytest

from keras_makeavid import video
from keras_makeavid.cli import main

SIZE = {"height": 64, "width": 64}
FEW = ("--steps", 2, "--height", 64, "--width", 64, "--seed", 3)


def run(*arguments):
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        return exit_.code


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), "uint8")


@pytest.fixture
def files(frames, tmp_path, monkeypatch):
    """The folder that the command runs in, with pictures and a clip."""
    monkeypatch.chdir(tmp_path)
    video.write_image("first.png", frames[0])
    video.write_image("last.png", frames[3])
    video.write_video("clip.gif", np.repeat(frames[:, :1, :1], 64, 1).repeat(64, 2), 10)
    return tmp_path


def written(folder):
    paths = sorted((folder / "out").iterdir())
    return np.stack([video.read_image(path) for path in paths])


@pytest.mark.once
def test_generate_takes_keyframes_and_prompts_that_change(preset, task, frames, files):
    code = run(
        *("generate", "a cat", "--prompt-at", "3=a dog", "--preset", preset),
        *("--keyframe", "0=first.png", "--keyframe", "-1=last.png"),
        *("--frames", 6, "--window", 4, "--overlap", 2, "--out", "out", *FEW),
    )
    assert code == 0
    (expected,) = task.generate(
        {0: "a cat", 3: "a dog"},
        keyframes={0: frames[0], 5: frames[3]},
        **{"num_frames": 6, "window": 4, "overlap": 2, "num_steps": 2, "seed": 3},
        **SIZE,
    )
    np.testing.assert_array_equal(written(files), expected)


@pytest.mark.once
def test_generate_changes_a_clip(preset, task, files):
    options = ("--video", "clip.gif", "--strength", 0.5, "--out", "out")
    assert run("generate", "a cat", "--preset", preset, *options, *FEW) == 0
    clip = video.read_video("clip.gif")
    settings = {"num_steps": 2, "seed": 3, **SIZE}
    (expected,) = task.generate("a cat", video=clip, strength=0.5, **settings)
    np.testing.assert_array_equal(written(files), expected)
    # It is as fast as the clip, whatever the preset's rate.
    options = ("--video", "clip.gif", "--strength", 0.5, "--out", "out.mp4")
    assert run("generate", "a cat", "--preset", preset, *options, *FEW) == 0
    assert video.probe("out.mp4").fps == pytest.approx(10)


@pytest.mark.once
def test_interpolate_and_extend_write_what_the_task_makes(preset, task, files, capsys):
    clip = video.read_video("clip.gif")
    settings = {"num_steps": 2, "seed": 3, **SIZE}
    options = ("--preset", preset, "--out", "out", *FEW)
    assert run("interpolate", "clip.gif", "--factor", 2, *options) == 0
    expected = task.interpolate(clip, 2, **settings)[0]
    np.testing.assert_array_equal(written(files), expected)
    few = ("--frames", 6, "--context-frames", 2, "--prompt", "a cat")
    assert run("extend", "clip.gif", *few, *options) == 0
    expected = task.extend(clip, 6, "a cat", context_frames=2, **settings)[0]
    np.testing.assert_array_equal(written(files), expected)
    # The rate is the clip's, and of in-betweens as many times more.
    options = ("--preset", preset, "--out", "out.mp4", *FEW)
    assert run("interpolate", "clip.gif", "--factor", 2, *options) == 0
    assert video.probe("out.mp4").fps == pytest.approx(20)


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--keyframe", "first.png"), "must be a frame's number, = and a value"),
        (("--keyframe", "0=missing.png"), "There is no file missing.png"),
        (("--keyframe", "0=first.png", "--keyframe", "0=last.png"), "one picture for"),
        (("--prompt-at", "0=a dog"), "one text for a frame above 0"),
        (("--video", "missing.mp4"), "There is no file missing.mp4"),
    ],
)
def test_what_makes_no_sense_is_one_line(files, capsys, arguments, message):
    assert run("generate", "a cat", "--preset", "nowhere", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.once
@pytest.mark.parametrize(
    "option", ["--keyframe=0=a.png", "--video=a.mp4", "--window=4"]
)
def test_lists_of_prompts_have_no_control(files, capsys, option):
    assert run("generate", "--prompts", "prompts.txt", option) == 2
    assert "does not go with --prompts" in capsys.readouterr().err


@pytest.mark.once
@pytest.mark.parametrize("option", ["--lora=a.safetensors", "--low-memory"])
def test_workers_of_ray_load_the_preset_alone(files, capsys, option):
    words = ("generate", "--prompts", "prompts.txt", "--ray", "local", option)
    assert run(*words) == 2
    assert "does not go with --ray" in capsys.readouterr().err
