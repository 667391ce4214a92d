"""Linear maps of latents to colours."""

import keras
import numpy as np
from keras import ops

from keras_makeavid.models import AutoencoderKL
from keras_makeavid.previews import fit_colours, preview_frames


def test_the_map_is_the_best_linear_one_for_each_sample():
    keras.utils.set_random_seed(0)
    vae = AutoencoderKL(block_channels=(8, 8), layers_per_block=1, groups=4)
    latents = np.random.default_rng(0).standard_normal((2, 6, 4, 4), "float32")
    colours = fit_colours(vae, latents)
    assert colours.shape == (2, 5, 3)
    pixels = vae.decode_video(latents).reshape(2, 6, 2, 4, 2, 3).mean((2, 4))
    frames = preview_frames(
        ops.convert_to_tensor(latents[:, None]), None, ops.convert_to_tensor(colours)
    )
    samples = zip(
        latents, pixels, colours, ops.convert_to_numpy(frames)[:, 0], strict=True
    )
    for each, pixel, fitted, frame in samples:
        inputs = np.concatenate([each, np.ones((6, 4, 1))], axis=-1)
        mapped = inputs @ fitted
        # What is left has nothing in common with the latents.
        rest = (pixel / 127.5 - 1 - mapped).reshape(-1, 3)
        np.testing.assert_allclose(inputs.reshape(-1, 5).T @ rest, 0, atol=1e-4)
        expected = (mapped.clip(-1, 1) + 1) * 127.5
        assert np.abs(frame - expected).max() <= 0.51
