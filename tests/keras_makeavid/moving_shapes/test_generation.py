from collections import Counter

import numpy as np
import pytest

from keras_makeavid.moving_shapes import (
    default_prompts,
    generate_videos,
    held_out,
    read_prompts,
)
from keras_makeavid.moving_shapes.captions import parse_caption
from keras_makeavid.moving_shapes.world import BACKGROUNDS, COLOURS, MOTIONS, SHAPES

PROMPTS = ["a red star moving left", "a blue square growing"]
SHORT = {"num_seeds": 2, "num_frames": 2, "num_steps": 1, "guidance_scale": 1.0}


def generated(task, **options):
    return list(generate_videos(task, PROMPTS, **{**SHORT, **options}))


def test_every_video_has_its_own_seed_and_is_what_the_task_generates(task):
    videos = generated(task)
    assert [video.caption for video in videos] == [PROMPTS[0]] * 2 + [PROMPTS[1]] * 2
    assert [video.seed for video in videos] == [0, 1, 2, 3]
    assert all(video.hint is None for video in videos)
    expected = task.generate(
        PROMPTS[1], num_frames=2, num_steps=1, guidance_scale=1.0, seed=3
    )
    difference = expected[0].astype(int) - videos[3].frames
    assert np.abs(difference).max() <= 1


def test_hints_are_first_frames_of_true_clips_and_differ(task):
    videos = generated(task, hints=True)
    hints = [video.hint for video in videos]
    assert {hint.shape for hint in hints} == {(128, 128, 3)}
    assert all((hints[0] != other).any() for other in hints[1:])
    expected = task.generate(
        PROMPTS[0],
        hint_image=hints[1],
        num_frames=2,
        num_steps=1,
        guidance_scale=1.0,
        seed=1,
    )
    difference = expected[0].astype(int) - videos[1].frames
    assert np.abs(difference).max() <= 1


def test_temporal_parts_can_be_left_out(task):
    whole, spatial = generated(task), generated(task, spatial_only=True)
    assert (whole[0].frames != spatial[0].frames).any()


def test_no_seeds_are_refused(task):
    with pytest.raises(ValueError, match="num_seeds must be at least 1. Received: 0"):
        generated(task, num_seeds=0)


def test_half_of_the_prompts_are_of_held_out_triples():
    descriptions = [parse_caption(prompt) for prompt in default_prompts(24)]
    held = [held_out(description.triple) for description in descriptions]
    assert held == [False] * 24 + [True] * 24
    assert len({description.triple for description in descriptions}) == 48


@pytest.mark.parametrize("half", [slice(24), slice(24, None)], ids=["seen", "held out"])
def test_everything_comes_about_as_often_as_the_rest_of_its_kind(half):
    descriptions = [parse_caption(prompt) for prompt in default_prompts(24)[half]]
    for kind, names, slack in (
        ("colour", COLOURS, 2),
        ("shape", SHAPES, 3),
        ("motion", MOTIONS, 3),
        ("background", BACKGROUNDS, 1),
    ):
        counts = Counter(getattr(description, kind) for description in descriptions)
        assert set(counts) == set(names)
        assert max(counts.values()) - min(counts.values()) <= slack


def test_wordings_are_many_and_mean_the_same():
    canonical, varied = default_prompts(24), default_prompts(24, wordings=True)
    assert [*map(parse_caption, varied)] == [*map(parse_caption, canonical)]
    assert sum(map(str.__ne__, varied, canonical)) > 20
    assert default_prompts(24, wordings=True) == varied


@pytest.mark.parametrize("count", [0, 41])
def test_more_prompts_than_triples_are_refused(count):
    with pytest.raises(
        ValueError, match=f"count must be from 1 to 40. Received: {count}"
    ):
        default_prompts(count)


def test_prompts_are_read_a_line_each(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\ufeffa red star moving left\n\n  a violet ball rises \n", "utf-8")
    assert read_prompts(path) == ["a red star moving left", "a violet ball rises"]


@pytest.mark.parametrize(
    "text, received",
    [("a red star growing\na cat\n", "Received: 'a cat'"), ("\n", "no prompt")],
)
def test_prompts_that_cannot_be_measured_are_refused(text, received, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"must hold prompts of a red.*{received}"):
        read_prompts(path)
