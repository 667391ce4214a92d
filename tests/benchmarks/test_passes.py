"""Ways to make fewer passes: what is measured, told and drawn of them."""

import argparse
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from keras_makeavid import TextToVideo, moving_shapes
from keras_makeavid.presets import DEFAULT_PRESET


@pytest.fixture(scope="module")
def passes():
    path = Path(__file__).parents[2] / "benchmarks" / "passes.py"
    spec = importlib.util.spec_from_file_location("passes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rows(passes):
    """Ten videos each of four settings: their seconds, and how many are right."""
    clip = moving_shapes.MotionClips(seed=1).clip(0)
    (right,) = moving_shapes.evaluate([clip]).results
    wrong = replace(right, measured=replace(right.measured, motion=None))

    def row(steps, seconds, count, **options):
        results = (right,) * count + (wrong,) * (10 - count)
        setting = passes.Setting(steps, "ddim", options.pop("guidance", 1.0), **options)
        return passes.Measured(setting, seconds, moving_shapes.Evaluation(results))

    default = row(20, 8.0, 10, guidance=2.0)
    fast = row(4, 0.5, 9, distilled=True)
    return [default, row(20, 2.0, 10, cache=3), row(10, 3.0, 10), fast]


def test_settings_are_the_default_and_all_that_differ(passes):
    options = argparse.Namespace(
        steps=[20, 2],
        schedulers=["dpm++2m"],
        guidance=[None, 1.0],
        caches=[1, 3],
        intervals=[(0.0, 1.0), (0.8, 1.0)],
        distilled_steps=[4],
    )
    default = passes.Setting(20, "dpm++2m", 2.0)
    settings = passes.settings_of(options, default)
    assert settings[0] == default
    # Of 20 steps three ways of guidance with and without a cache, of 2 without.
    assert len(settings) == len(set(settings)) == 3 * 2 + 3 + 1
    assert settings[-1] == passes.Setting(4, "lcm", 1.0, distilled=True)


def test_settings_are_measured_on_the_same_videos(passes):
    task = TextToVideo.from_preset(DEFAULT_PRESET)
    settings = [passes.Setting(1, "ddim", 2.0), passes.Setting(2, "lcm", 1.0)]
    measured = passes.measure({False: task}, settings, count=1, seeds=1)
    assert [row.setting for row in measured] == settings
    assert all(row.seconds > 0 for row in measured)
    videos = [[result.caption for result in row.evaluation.results] for row in measured]
    assert videos == [moving_shapes.default_prompts(1)] * 2


def test_the_table_begins_with_the_default_and_goes_on_with_the_fastest(passes, rows):
    header, _, *lines = passes.table_lines(rows)
    assert {line.count("|") for line in lines} == {header.count("|")}
    assert lines[0].startswith("| 20 | ddim | 2 | 0 to 1 | 1 |  | 8 | 1.0 |")
    assert lines[1].endswith("| yes | 0.5 | 16.0 | 100.0% | 100.0% | 90.0% | 90.0% |")
    assert [line.split(" | ")[7] for line in lines] == ["1.0", "16.0", "4.0", "2.7"]


def test_the_fastest_near_the_best_is_recommended(passes, rows):
    setting = passes.recommended(rows).setting
    assert passes.named(setting) == "20 steps of ddim, no guidance, cache 3"


def test_the_picture_of_the_passes(passes, rows, tmp_path):
    pytest.importorskip("matplotlib")
    passes.draw(rows, str(tmp_path / "passes.png"))
    assert (tmp_path / "passes.png").stat().st_size > 1000
