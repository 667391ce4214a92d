import numpy as np
import pytest

from keras_makeavid.data.motions import MotionClips
from keras_makeavid.evaluation import vae_psnr


class Vae:
    """Keeps all but an error of `levels` of 255."""

    def __init__(self, levels):
        self.levels = levels

    def encode_video(self, frames, chunk_size):
        return frames / 127.5 - 1

    def decode_video(self, latents, chunk_size):
        frames = np.rint((latents + 1) * 127.5)
        return np.where(frames < 128, frames + self.levels, frames - self.levels)


class Task:
    height, width = 32, 64

    def __init__(self, levels):
        self.vae = Vae(levels)


@pytest.mark.parametrize("levels", [1, 5])
def test_it_is_the_mean_psnr_of_held_out_pictures(levels):
    expected = 20 * np.log10(255 / levels)
    assert vae_psnr(Task(levels), 3) == pytest.approx(expected)


def test_pictures_are_of_the_model_s_shorter_side():
    task = Task(1)
    seen = []
    task.vae.encode_video = lambda frames, chunk_size: seen.append(frames) or frames
    task.vae.decode_video = lambda latents, chunk_size: latents
    assert vae_psnr(task, 3) == 100
    expected, _ = MotionClips(split="held_out", size=32).images(range(3))
    np.testing.assert_array_equal(seen[0], expected)
