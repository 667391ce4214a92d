import json
import re
import subprocess
import sys

import numpy as np
import pytest

from keras_makeavid.cli import main
from keras_makeavid.data import LatentClip, open_dataset
from keras_makeavid.data.published import write_published


def run(*arguments):
    """The exit code of `makeavid dataset` with these arguments."""
    try:
        return main(["dataset", *map(str, arguments)])
    except SystemExit as exit_:
        return exit_.code


@pytest.fixture
def dataset(tmp_path):
    """Two clips of 4 frames in the published layout."""
    clips = []
    rng = np.random.default_rng(0)
    for clip_id in "ab":
        latents = rng.standard_normal((4, 2, 3, 4), "float32")
        context = rng.standard_normal((5, 6), "float32")
        clips.append(LatentClip(clip_id, latents, context, {"caption": clip_id}))
    write_published(tmp_path / "published", clips)
    return tmp_path / "published"


def damage(dataset):
    path = dataset / "data" / "videos" / "b.npy"
    np.save(path, np.full((4, 4, 2, 3), np.nan, "float32"))


@pytest.mark.parametrize("command", ["check", "convert", "motions"])
def test_help_of_a_command_ends_with_an_example(command, capsys):
    assert run(command, "--help") == 0
    assert f"example:\n  makeavid dataset {command} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--clips", "0"), "--clips must be at least 1. Received: 0"),
        (("--often", "spinning", "much"), "share must be a number. Received: 'much'"),
        (("--often", "spinning", "1.5"), "over 0 and at most 1. Received: 1.5"),
        (("--often", "flying", "0.5"), "motion must be one of .*Received: 'flying'"),
    ],
)
def test_motions_that_cannot_be_drawn_are_one_line(options, message, tmp_path, capsys):
    assert run("motions", tmp_path / "out", "--preset", "nowhere", *options) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_info_tells_what_it_holds(dataset, capsys):
    assert main(["info", str(dataset)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["layout: published", "clips: 2", "frames: 8"]


def test_convert_goes_there_and_back(dataset, tmp_path, capfd):
    assert run("convert", dataset, tmp_path / "ours") == 0
    ours, back = tmp_path / "ours", tmp_path / "back"
    assert run("convert", ours, back, "--layout", "published") == 0
    assert capfd.readouterr() == (f"{ours}: 2 clips\n{back}: 2 clips\n", "")
    video = "data/videos/a.npy"
    assert (back / video).read_bytes() == (dataset / video).read_bytes()


def test_convert_stores_half_precision(dataset, tmp_path):
    assert run("convert", dataset, tmp_path / "ours", "--half") == 0
    assert open_dataset(tmp_path / "ours").latents(0).dtype == np.float16


def test_check_of_a_whole_dataset_succeeds(dataset, capfd):
    assert run("check", dataset) == 0
    assert capfd.readouterr() == (f"{dataset}: 2 clips are whole, 0 damaged\n", "")


def test_check_of_a_damaged_dataset_fails_until_the_clip_is_left_out(dataset, capfd):
    damage(dataset)
    assert run("check", dataset) == 1
    out, error = capfd.readouterr()
    assert out == f"{dataset}: 1 clips are whole, 1 damaged\n"
    assert error == "Clip b: the latents hold numbers that are not finite\n"

    assert run("check", dataset, "--leave-out") == 0
    assert "1 clips are whole, 1 left out from now on" in capfd.readouterr().out
    failed = dataset / "data" / "failed_id_list.json"
    assert json.loads(failed.read_text()) == ["b"]
    assert run("check", dataset) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "missing"], "check: error: missing is no latent dataset"),
        (["convert", "DATASET"], "convert: error: .* required: out"),
        (["convert", "DATASET", "DATASET"], "convert: error: .* holds files"),
        (["sing"], "error: argument COMMAND: invalid choice: 'sing'"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(arguments, message, dataset, capfd):
    places = {"DATASET": dataset}
    assert run(*(places.get(argument, argument) for argument in arguments)) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert re.match(f"makeavid dataset(: | ){message}", error)


def test_no_keras_is_imported(dataset):
    program = (
        "import sys; from keras_makeavid.cli import main; main(sys.argv[1:]); "
        "assert not {'keras', 'jax', 'torch', 'tensorflow'} & sys.modules.keys()"
    )
    command = [sys.executable, "-c", program, "dataset", "check", str(dataset)]
    subprocess.run(command, check=True, capture_output=True)
