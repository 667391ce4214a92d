"""Noise from keys: from the words that JAX draws, normal, and of each sample alone."""

import numpy as np
import pytest
from keras import ops

from keras_makeavid.schedulers import step_noise
from keras_makeavid.schedulers.step_table import threefry


def draw(keys, number, shape):
    return ops.convert_to_numpy(step_noise(np.array(keys, "int32"), number, shape))


def test_words_are_those_of_threefry_in_jax():
    from jax.extend.random import threefry_2x32

    words = np.random.default_rng(0).integers(0, 2**32, (4, 100), dtype="uint32")
    for key in words[:2, :5].T:
        found = threefry(
            *(
                ops.convert_to_tensor(w.view("int32"))
                for w in (*key[:, None], *words[2:])
            )
        )
        found = np.concatenate([ops.convert_to_numpy(x) for x in found]).view("uint32")
        np.testing.assert_array_equal(found, threefry_2x32(key, words[2:].ravel()))


def test_noise_is_standard_normal():
    noise = draw([[1, 2]], 0, (1, 200_000)).astype("float64")
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert noise.var() == pytest.approx(1, abs=0.02)
    assert (noise**3).mean() == pytest.approx(0, abs=0.03)
    assert (noise**4).mean() == pytest.approx(3, abs=0.1)
    # Both halves of a pair are drawn from one word's angle and another's radius.
    assert np.corrcoef(noise.reshape(2, -1))[0, 1] == pytest.approx(0, abs=0.02)


def test_noise_of_a_sample_is_that_of_its_key_whatever_the_batch():
    keys = [[1, 2], [-3, 4], [5, -6]]
    together = draw(keys, 3, (3, 5, 7))
    for i, key in enumerate(keys):
        alone = draw([key], 3, (1, 5, 7))[0]
        # To a last bit: vectorised `log` and `cos` round by where a number lies.
        np.testing.assert_allclose(alone, together[i], rtol=0, atol=1e-6)


def test_steps_and_keys_draw_noise_that_is_independent():
    keys = [[1, 2], [1, 3], [2, 2]]
    noise = [draw([key], step, (1, 20_000))[0] for key in keys for step in range(4)]
    correlation = np.corrcoef(noise) - np.eye(len(noise))
    assert np.abs(correlation).max() < 0.03


def test_noise_is_the_same_on_every_backend():
    noise = draw([[123456789, -987654321]], 7, (1, 2, 3))
    # Of a run under JAX.
    expected = [[-0.090779, -2.280353, 1.163797], [-0.279337, -0.290734, -1.407312]]
    np.testing.assert_allclose(noise[0], expected, rtol=0, atol=1e-5)
