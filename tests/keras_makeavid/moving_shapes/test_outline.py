import numpy as np
import pytest

from keras_makeavid.moving_shapes.outline import (
    centre_of,
    name_shape,
    outline_harmonics,
    outline_reach,
)
from keras_makeavid.moving_shapes.segmentation import segment, working_frames

CORNERS = {"triangle": 3, "square": 4, "star": 5}


def harmonics_of(frames):
    return outline_harmonics(outline_reach(segment(working_frames(frames))))


@pytest.mark.parametrize("shape", CORNERS)
def test_the_strongest_harmonic_is_the_number_of_corners(shape, clip_of):
    harmonics = np.abs(harmonics_of(clip_of("red", shape, "spinning")))
    assert set(harmonics[:, 1:].argmax(axis=1) + 1) == {CORNERS[shape]}


def test_a_circle_has_no_harmonics_and_reaches_its_radius_everywhere(clip_of):
    frames = clip_of("red", "circle", "moving left")
    reach = outline_reach(segment(working_frames(frames)))
    assert np.ptp(reach) < 0.5
    assert np.abs(outline_harmonics(reach)[:, 1:]).max() < 0.02


@pytest.mark.parametrize("shape", ["circle", "triangle", "square", "star", "dancer"])
def test_a_shape_is_named_at_any_brightness_and_place(shape, clip_of):
    motion = "waving" if shape == "dancer" else "moving up"
    for seed, background in enumerate(("black", "grey", "brown")):
        frames = clip_of("white", shape, motion, background, seed=seed)
        assert name_shape(harmonics_of(frames)) == shape


def test_the_centre_is_that_of_gravity():
    coverage = np.zeros((8, 8))
    coverage[2, 3], coverage[2, 5] = 1.0, 1.0
    assert centre_of(coverage) == (4.0, 2.0)
