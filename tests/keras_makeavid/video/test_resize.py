import numpy as np
import pytest

from keras_makeavid.video import cover_crop
from keras_makeavid.video.resize import check_size


def test_the_same_size_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), "uint8")
    np.testing.assert_array_equal(cover_crop(image, 5, 7), image)


def test_what_sticks_out_is_cut_equally_on_both_sides():
    image = np.random.default_rng(0).integers(0, 256, (6, 10, 3), "uint8")
    np.testing.assert_array_equal(cover_crop(image, 6, 4), image[:, 3:7])
    np.testing.assert_array_equal(cover_crop(image, 2, 10), image[2:4])


def test_shrinking_averages_areas():
    image = np.random.default_rng(0).integers(0, 256, (8, 16, 3), "uint8")
    means = image[:, 4:12].reshape(4, 2, 4, 2, 3).mean((1, 3))
    error = np.abs(cover_crop(image, 4, 4).astype(float) - means)
    assert error.max() <= 0.5


def test_enlarging_keeps_a_constant_and_the_range():
    image = np.full((4, 4, 3), (0, 128, 255), "uint8")
    enlarged = cover_crop(image, 32, 20)
    np.testing.assert_array_equal(enlarged, np.full((32, 20, 3), (0, 128, 255)))


def test_nearest_makes_no_new_values_and_stays_centred():
    mask = np.zeros((9, 15), "uint8")
    mask[:, 6:9] = 255
    resized = cover_crop(mask, 3, 5, nearest=True)
    np.testing.assert_array_equal(resized, [[0, 0, 255, 0, 0]] * 3)


@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (3, 2), (7, 1000)])
@pytest.mark.parametrize("target", [(1, 1), (64, 1), (1, 64), (33, 47)])
def test_every_shape_gets_the_size_asked_for(shape, target):
    image = np.zeros((*shape, 3), "uint8")
    assert cover_crop(image, *target).shape == (*target, 3)
    assert cover_crop(image[..., 0], *target, nearest=True).shape == target


def test_half_a_size_is_refused():
    check_size(None, None)
    check_size(np.int64(4), 4)
    with pytest.raises(ValueError, match="Received: height=4, width=None"):
        check_size(4, None)
    with pytest.raises(ValueError, match="width must be .* Received: -1"):
        check_size(4, -1)
