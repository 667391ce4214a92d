import numpy as np
import pytest

from keras_makeavid.moving_shapes.measure import Track, name_motion, track
from keras_makeavid.moving_shapes.segmentation import (
    outline_reach,
    segment,
    working_frames,
)

STILL = np.zeros(16)
TIMES = np.linspace(0, 1, 16)


def path(**changes):
    still = {"x": STILL, "y": STILL, "size": STILL, "turn": STILL, "gesture": 0.0}
    return Track(**{**still, **changes})


@pytest.mark.parametrize(
    "changes, motion",
    [
        ({"x": -0.3 * TIMES}, "moving left"),
        ({"x": 0.3 * TIMES}, "moving right"),
        ({"y": -0.3 * TIMES}, "moving up"),
        ({"y": 0.3 * TIMES}, "moving down"),
        ({"size": np.log(1 + TIMES)}, "growing"),
        ({"size": -np.log(1 + TIMES)}, "shrinking"),
        ({"turn": 150 * TIMES}, "spinning"),
        ({"turn": -150 * TIMES}, "spinning"),
        ({"y": -0.3 * np.abs(np.sin(2 * np.pi * TIMES))}, "bouncing"),
        ({}, None),
        ({"x": 0.05 * TIMES}, None),
        # Once up and down is no bouncing.
        ({"y": -0.3 * np.sin(np.pi * TIMES)}, None),
        ({"turn": 60 * np.sin(20 * TIMES)}, None),
        ({"turn": 200 * TIMES, "x": 0.1 * TIMES}, "spinning"),
        ({"turn": 400 * TIMES, "x": 0.3 * TIMES}, "moving right"),
    ],
)
def test_a_track_has_the_name_of_its_clearest_motion(changes, motion):
    assert name_motion(path(**changes), "star") == motion


@pytest.mark.parametrize(
    "changes, motion",
    [
        ({"y": -0.2 * np.abs(np.sin(2 * np.pi * TIMES)), "gesture": 0.3}, "jumping"),
        ({"x": 0.08 * np.sin(4 * np.pi * TIMES), "gesture": 0.3}, "swaying"),
        ({"gesture": 0.3}, "waving"),
        ({"gesture": 0.05}, None),
        ({"x": 0.4 * TIMES, "gesture": 0.3}, "moving right"),
    ],
)
def test_a_dancer_s_motions_are_dances(changes, motion):
    assert name_motion(path(**changes), "dancer") == motion


def test_two_frames_are_too_few():
    two = [0.0, 0.5]
    assert name_motion(Track(*map(np.array, [two] * 4), 1.0), "star") is None


@pytest.mark.parametrize("shape", ["triangle", "square", "star"])
def test_a_turn_is_followed_clockwise_beyond_the_shape_s_symmetry(shape, clip_of):
    segmentation = segment(working_frames(clip_of("red", shape, "spinning")))
    followed = track(segmentation, outline_reach(segmentation), shape)
    assert 125 < followed.turn[-1] - followed.turn[0] < 225
    assert np.all(np.diff(followed.turn) > 0)
    assert np.ptp(followed.x) < 0.01
    assert np.ptp(followed.size) < 0.05
