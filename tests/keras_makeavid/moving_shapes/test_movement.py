import numpy as np
import pytest

from keras_makeavid.moving_shapes import Description, draw_scene_of
from keras_makeavid.moving_shapes.rendering import figure_of, path_of
from keras_makeavid.moving_shapes.world import motions_of

TIMES = np.linspace(0, 1, 41)


def figure(motion, seed=0):
    """A scene of a dancer, and its limbs as `(limbs, ends, F, 2)`."""
    dancer = Description("red", "dancer", motion)
    scene = draw_scene_of(dancer, np.random.default_rng(seed))
    return scene, np.array([(limb.start, limb.end) for limb in figure_of(scene, TIMES)])


def lowest(limbs):
    return limbs[..., 1].max(axis=(0, 1))


@pytest.mark.parametrize("motion", ["jumping", "waving", "swaying"])
def test_arms_keep_their_length_and_everything_hangs_together(motion):
    _, limbs = figure(motion)
    lengths = np.linalg.norm(limbs[:, 0] - limbs[:, 1], axis=-1)
    rigid = np.ptp(lengths, axis=1) < 1e-9
    # Torso, head and four parts of arms; legs bend by their knees.
    assert rigid.sum() >= 6
    ends = limbs.transpose(2, 0, 1, 3).reshape(len(TIMES), -1, 2)
    for joints in ends[::10]:
        apart = np.linalg.norm(joints[:, None] - joints[None], axis=-1)
        hands_and_feet = np.sum(np.sort(apart, axis=1)[:, 1] > 1e-9)
        # Torso's top too: the head stands a little above, on its neck.
        assert hands_and_feet <= 5


def test_a_jump_lifts_the_feet_and_a_dance_on_the_ground_does_not():
    scene, limbs = figure("jumping")
    assert np.ptp(lowest(limbs)) == pytest.approx(scene.amount, rel=0.02)
    assert np.sum(lowest(limbs) > lowest(limbs).max() - 1e-9) in (3, 4)
    for motion in ("waving", "swaying"):
        assert np.ptp(lowest(figure(motion)[1])) < 1e-9


def test_a_wave_moves_one_arm_only():
    _, limbs = figure("waving")
    moved = np.ptp(limbs, axis=2).max(axis=(1, 2)) > 1e-9
    assert moved.sum() == 2


def test_a_sway_leans_to_both_sides():
    scene, limbs = figure("swaying")
    shoulders = limbs[..., 0].min(axis=(0, 1)), limbs[..., 0].max(axis=(0, 1))
    middle = np.mean(shoulders, axis=0) - scene.x
    assert middle.max() > 0.02
    assert middle.min() < -0.02


PATH_TIMES = np.linspace(0, 1, 31)


def path(motion, shape="star", seed=0):
    rng = np.random.default_rng(seed)
    return path_of(draw_scene_of(Description("red", shape, motion), rng), PATH_TIMES)


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
