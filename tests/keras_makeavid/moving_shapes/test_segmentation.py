import numpy as np
import pytest

from keras_makeavid.moving_shapes.segmentation import (
    centre_of,
    name_shape,
    outline_harmonics,
    outline_reach,
    segment,
    working_frames,
)


def test_coverage_sums_to_the_area_blurred_or_not(clip_of, degrade):
    rng = np.random.default_rng(0)
    frames = clip_of("red", "square", "moving left", "grey")
    sharp = segment(working_frames(frames))
    soft = segment(working_frames(degrade(frames, "blur", rng)))
    areas = sharp.coverage.sum((1, 2))
    assert np.ptp(areas) / areas.mean() < 0.02
    np.testing.assert_allclose(soft.coverage.sum((1, 2)), areas, rtol=0.04)


def test_the_object_s_colour_is_that_of_its_inside(clip_of):
    frames = clip_of("white", "dancer", "waving", "brown")
    brightest = frames.reshape(-1, 3).max(axis=0)
    assert np.abs(segment(working_frames(frames)).rgb - brightest).max() < 12


def test_specks_are_not_the_object(clip_of):
    frames = clip_of("red", "circle", "growing").copy()
    clean = segment(working_frames(frames)).coverage
    frames[:, 2:4, 2:4] = 255
    speckled = segment(working_frames(frames)).coverage
    assert speckled[:, :6, :6].max() == 0
    np.testing.assert_allclose(speckled.sum(), clean.sum(), rtol=0.05)


def test_frames_that_the_object_has_left_are_known(clip_of):
    frames = clip_of("red", "circle", "growing").copy()
    frames[12:] = frames[0, 0, 0]
    assert segment(working_frames(frames)).visible.tolist() == [True] * 12 + [False] * 4


def test_nothing_is_found_where_nothing_stands_out():
    frames = np.full((4, 64, 64, 3), 120, "uint8")
    frames[:, 20:40, 20:40] += 8
    assert segment(working_frames(frames)) is None


@pytest.mark.parametrize("height, width", [(256, 512), (32, 64)])
def test_the_shorter_side_is_measured_at_64_pixels(height, width):
    frames = np.zeros((2, height, width, 3), "uint8")
    assert working_frames(frames).shape == (2, 64, 128, 3)


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
