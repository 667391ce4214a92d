import numpy as np
import pytest

from keras_makeavid.data.motions import Description, draw_scene_of, motions_of
from keras_makeavid.data.motions.paths import path_of

TIMES = np.linspace(0, 1, 31)


def path(motion, shape="star", seed=0):
    rng = np.random.default_rng(seed)
    return path_of(draw_scene_of(Description("red", shape, motion), rng), TIMES)


def changing(path):
    return {name for name, values in path._asdict().items() if np.ptp(values) > 1e-9}


@pytest.mark.parametrize(
    "motion, name, sign",
    [
        ("moving left", "x", -1),
        ("moving right", "x", 1),
        ("moving up", "y", -1),
        ("moving down", "y", 1),
    ],
)
def test_what_moves_goes_straight_at_an_even_speed(motion, name, sign):
    moved = path(motion)
    assert changing(moved) == {name}
    steps = np.diff(getattr(moved, name))
    assert np.ptp(steps) < 1e-9
    assert 0.25 <= sign * steps.sum() <= 0.55


def test_what_grows_or_shrinks_becomes_about_twice_or_half_as_large():
    grown, shrunk = path("growing"), path("shrinking")
    assert changing(grown) == changing(shrunk) == {"radius"}
    assert 1.7 <= grown.radius[-1] / grown.radius[0] <= 2.2
    assert 1.7 <= shrunk.radius[0] / shrunk.radius[-1] <= 2.2


def test_what_spins_turns_clockwise_in_its_place():
    spun = path("spinning")
    assert changing(spun) == {"turn"}
    assert np.all(np.diff(spun.turn) > 0)
    # From frame to frame less than half of a star's symmetry, even in 8 frames.
    assert 130 <= spun.turn[-1] <= 220 < 7 * 36


@pytest.mark.parametrize("seed", range(5))
def test_what_bounces_comes_back_to_the_ground_several_times(seed):
    bounced = path("bouncing", seed=seed)
    assert changing(bounced) == {"y"}
    ground = bounced.y.max()
    assert bounced.y[0] == pytest.approx(ground)
    assert bounced.y[-1] == pytest.approx(ground)
    assert np.isclose(bounced.y, ground).sum() in (3, 4)


@pytest.mark.parametrize("shape", ["circle", "square", "triangle", "star"])
def test_every_motion_of_a_shape_changes_something(shape):
    for motion in motions_of(shape):
        assert changing(path(motion, shape))
