import numpy as np
import pytest

from keras_makeavid.data.motions import Description, draw_scene_of
from keras_makeavid.data.motions.figure import figure_of

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
