import keras
import numpy as np
import pytest

from keras_makeavid.evaluation import generate_videos

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "torch",
    reason="what is generated is tested with the task, on every backend",
)

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
