import numpy as np
import pytest

from keras_makeavid.schedulers.spacing import (
    karras_spacing,
    spaced_timesteps,
    timesteps_of_sigmas,
)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ("leading", [751, 501, 251, 1]),
        ("linspace", [999, 666, 333, 0]),
        ("trailing", [999, 749, 499, 249]),
    ],
)
def test_four_of_a_thousand_timesteps_lie_where_the_paper_has_them(spacing, expected):
    np.testing.assert_array_equal(spaced_timesteps(spacing, 4, 1000), expected)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("num_points", [1, 3, 499, 999, 1000])
def test_timesteps_are_distinct_and_within_training(spacing, num_points):
    timesteps = spaced_timesteps(spacing, num_points, 1000)
    assert timesteps.shape == (num_points,)
    assert (np.diff(timesteps) < 0).all()
    assert 0 <= timesteps.min() <= timesteps.max() <= 999


def test_karras_spacing_reaches_both_ends_and_is_even_in_the_seventh_root():
    sigmas = karras_spacing(14.6, 0.03, 9)
    np.testing.assert_allclose(sigmas[[0, -1]], [14.6, 0.03], rtol=1e-12)
    strides = np.diff(sigmas ** (1 / 7))
    np.testing.assert_allclose(strides, strides[0], rtol=1e-12)


def test_timesteps_of_sigmas_undo_the_training_schedule():
    train_sigmas = np.geomspace(0.03, 15.0, 1000)
    timesteps = np.array([999.0, 500.5, 0.0])
    sigmas = np.exp(np.interp(timesteps, np.arange(1000), np.log(train_sigmas)))
    found = timesteps_of_sigmas(sigmas, train_sigmas)
    np.testing.assert_allclose(found, timesteps, atol=1e-9)
