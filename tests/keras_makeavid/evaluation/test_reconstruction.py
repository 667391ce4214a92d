import numpy as np
import pytest

from keras_makeavid.data.motions import MotionClips
from keras_makeavid.evaluation import vae_psnr


class Task:
    """Its VAE keeps all but an error: of 1 level of 255, and of 5 in every third."""

    height, width = 32, 64

    def __init__(self):
        self.vae, self.encoded = self, []

    def encode_video(self, frames, chunk_size):
        self.encoded.append(frames)
        return frames / 127.5 - 1

    def decode_video(self, latents, chunk_size):
        frames = np.rint((latents + 1) * 127.5)
        levels = np.ones((len(frames), 1, 1, 1))
        levels[::3] = 5
        return np.where(frames < 128, frames + levels, frames - levels)


def test_it_is_the_mean_psnr_of_held_out_pictures():
    task = Task()
    expected = np.mean(20 * np.log10(255 / np.array([5, 1, 1])))
    assert vae_psnr(task, 3) == pytest.approx(expected)
    # As large as the shorter side.
    images, _ = MotionClips(split="held_out", size=32).images(range(3))
    np.testing.assert_array_equal(task.encoded, [images])
