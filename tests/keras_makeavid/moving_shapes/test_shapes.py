import numpy as np
import pytest

from keras_makeavid.moving_shapes.rendering import outline_distance
from keras_makeavid.moving_shapes.world import REACH

SHAPES = ["circle", "square", "triangle", "star"]


def distances(shape, radius=20.0, size=101):
    """Signed distances around the centre of a shape, a pixel apart."""
    places = np.arange(size) - size // 2
    return outline_distance(shape, places[None, :], places[:, None], radius)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_one_radius_have_about_the_same_area(shape):
    area = (distances(shape) < 0).sum()
    assert area == pytest.approx(np.pi * 20**2, rel=0.15)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_reaches_farther_than_it_says(shape):
    rows, columns = np.nonzero(distances(shape) < 0)
    farthest = np.hypot(rows - 50, columns - 50).max()
    assert REACH[shape] * 20 - 2 < farthest <= REACH[shape] * 20


@pytest.mark.parametrize("shape", SHAPES)
def test_beside_an_edge_the_distance_is_that_from_it(shape):
    distance = distances(shape)
    below, right = np.gradient(distance)
    steepness = np.hypot(below, right)
    # But for the pixels where two edges meet.
    assert np.mean(np.abs(steepness[np.abs(distance) < 3] - 1) < 0.05) > 0.7


def test_triangle_and_star_point_up():
    for shape in ("triangle", "star"):
        inside = distances(shape) < 0
        top = inside[np.nonzero(inside.any(axis=1))[0][0]]
        assert np.flatnonzero(top).tolist() == [50]


@pytest.mark.parametrize("shape, turns", [("square", 4), ("triangle", 3), ("star", 5)])
def test_a_shape_looks_the_same_turned_by_a_corner(shape, turns):
    angle = 2 * np.pi / turns
    x, y = np.random.default_rng(0).uniform(-40, 40, (2, 500))
    turned_x = x * np.cos(angle) + y * np.sin(angle)
    turned_y = y * np.cos(angle) - x * np.sin(angle)
    np.testing.assert_allclose(
        outline_distance(shape, turned_x, turned_y, 20.0),
        outline_distance(shape, x, y, 20.0),
        atol=1e-9,
    )
