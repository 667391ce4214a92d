"""Tiles cover a picture, and blend without a seam."""

import itertools

import numpy as np
import pytest

from keras_makeavid.models.frame_coding import blend_weights, by_tiles, tile_starts

AXES = [(16, 4), (17, 8), (9, 8), (8, 8), (64, 24), (129, 64), (40, 17)]


@pytest.mark.parametrize(("size", "tile"), AXES)
def test_tiles_reach_both_ends_and_share_at_least_a_quarter(size, tile):
    starts = tile_starts(size, tile)
    assert (starts[0], starts[-1]) == (0, size - tile)
    for left, right in itertools.pairwise(starts):
        assert left < right <= left + tile - tile // 4


@pytest.mark.parametrize(("size", "tile"), AXES)
def test_weights_at_each_point_sum_to_one(size, tile):
    starts = tile_starts(size, tile)
    total = np.zeros(size)
    for start, weight in zip(starts, blend_weights(starts, size, tile), strict=True):
        assert weight.min() >= 0
        total[start : start + tile] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_a_function_of_single_pixels_is_the_same_by_tiles():
    pictures = np.random.default_rng(0).normal(size=(2, 26, 18, 3)).astype("float32")

    def enlarged(x):
        return np.tanh(x).repeat(4, axis=1).repeat(4, axis=2)

    result = by_tiles(enlarged, pictures, tile=5, scale_in=2, scale_out=8)
    np.testing.assert_allclose(result, enlarged(pictures), atol=1e-6)


def test_tiles_of_different_brightness_blend_without_a_step():
    brightness = itertools.cycle([0.0, 1.0])

    def flat(tile):
        return np.full_like(tile, next(brightness))

    pictures = np.zeros((1, 64, 112, 1), "float32")
    result = by_tiles(flat, pictures, 64, 1, 1)[0, 0, :, 0]
    assert (result[0], result[-1]) == (0, 1)
    # The overlap is 16 pixels: as many steps from one tile to the other.
    assert np.abs(np.diff(result)).max() <= 1 / 16 + 1e-6


def test_every_tile_has_the_same_shape_even_at_the_border():
    shapes = set()

    def recorded(tile):
        shapes.add(tile.shape)
        return tile

    by_tiles(recorded, np.zeros((3, 26, 14, 2), "float32"), 8, 2, 2)
    assert shapes == {(3, 16, 14, 2)}
