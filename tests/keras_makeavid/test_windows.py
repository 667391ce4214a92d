"""Windows over long videos."""

import numpy as np
import pytest
from diffusers.models.attention import FreeNoiseTransformerBlock

from keras_makeavid.windows import Windows, frame_weights, share_noise


@pytest.mark.parametrize("frames", [1, 2, 5, 8, 15, 16])
@pytest.mark.parametrize(("blend", "scheme"), [("pyramid",) * 2, ("uniform", "flat")])
def test_weights_are_those_of_diffusers(frames, blend, scheme):
    expected = FreeNoiseTransformerBlock._get_frame_weights(None, frames, scheme)
    np.testing.assert_array_equal(frame_weights(frames, blend), expected)


@pytest.mark.parametrize(("frames", "window", "overlap"), [(40, 16, 4), (64, 16, 8)])
def test_windows_that_fill_a_video_lie_as_those_of_diffusers(frames, window, overlap):
    class Block:
        context_length, context_stride = window, window - overlap

    expected = FreeNoiseTransformerBlock._get_frame_indices(Block, frames)
    starts = Windows.over(frames, window, overlap).starts
    np.testing.assert_array_equal(starts, [start for start, _ in expected])


@pytest.mark.parametrize("frames", [16, 17, 29, 63, 64])
@pytest.mark.parametrize("blend", ["pyramid", "uniform"])
def test_windows_cover_every_frame_and_their_shares_add_up_to_one(frames, blend):
    windows = Windows.over(frames, 16, 4, blend)
    assert windows.starts[0] == 0 and windows.starts[-1] == frames - 16
    assert (np.diff(windows.starts) <= 12).all()
    sums = np.zeros(frames)
    for start, shares in zip(windows.starts, windows.shares, strict=True):
        assert (shares > 0).all()
        sums[start : start + 16] += shares
    np.testing.assert_allclose(sums, 1.0, rtol=0, atol=1e-6)


def test_one_window_is_the_video():
    windows = Windows.over(16, 16, 4)
    np.testing.assert_array_equal(windows.starts, [0])
    np.testing.assert_array_equal(windows.shares, np.ones((1, 16)))


def test_shared_noise_is_that_of_the_first_window_in_other_orders():
    noise = np.random.default_rng(0).normal(size=(45, 2, 2, 3))
    shared = share_noise(noise, 16, 12, np.random.default_rng(1))
    assert shared.shape == noise.shape
    np.testing.assert_array_equal(shared[:16], noise[:16])
    first = {frame.tobytes() for frame in noise[:16]}
    assert {frame.tobytes() for frame in shared} == first
    # Each stride is a shuffle of the frames that lie a window before it.
    for start in (16, 28):
        before = shared[start - 16 : start - 4]
        after = shared[start : start + 12]
        assert not np.array_equal(after, before)
        np.testing.assert_array_equal(np.sort(after, axis=0), np.sort(before, axis=0))
