import keras
import numpy as np
import pytest

from keras_makeavid.models import AutoencoderKL
from keras_makeavid.training import ImageAutoencoding


@pytest.fixture
def vae():
    keras.utils.set_random_seed(0)
    return AutoencoderKL(block_channels=(8, 8), layers_per_block=1, groups=4)


@pytest.fixture
def images():
    ramp = np.linspace(-1.0, 1.0, 8, dtype="float32")
    images = np.stack(np.broadcast_arrays(ramp[:, None], ramp, 0.5), axis=-1)
    return np.stack([images, -images, images[::-1], images[:, ::-1]])


@pytest.mark.slow
def test_training_improves_the_reconstruction(vae, images):
    before = _error(vae, images)
    model = ImageAutoencoding(vae, kl_weight=1e-4, seed=0)
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    model.fit(np.tile(images, (16, 1, 1, 1)), batch_size=4, epochs=2, verbose=0)
    assert _error(vae, images) < 0.5 * before


def test_divergence_is_that_of_the_posterior_from_the_standard_normal(vae, images):
    parts = ImageAutoencoding(vae, seed=0)(images)
    mean, log_variance = map(keras.ops.convert_to_numpy, vae.posterior(images))
    expected = 0.5 * np.mean(mean**2 + np.exp(log_variance) - 1.0 - log_variance)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(parts["divergence"]), expected, rtol=1e-5
    )


def test_loss_weighs_the_divergence(vae, images):
    model = ImageAutoencoding(vae, kl_weight=0.25, seed=0)
    parts = {"reconstruction": 1.0, "divergence": 2.0}
    assert model.compute_loss(x=images, y_pred=parts) == 1.5


def _error(vae, images):
    shown = keras.ops.convert_to_numpy(vae(images))
    return np.mean((shown - images) ** 2)
