import numpy as np
from keras import ops

from keras_makeavid.data import PictureLoader
from keras_makeavid.models import AutoencoderKL
from keras_makeavid.moving_shapes import MotionClips
from keras_makeavid.training.image_objectives import with_unit_latents


def test_scaled_latents_have_unit_variance_and_decode_to_the_same():
    vae = AutoencoderKL(
        block_channels=(8, 8), layers_per_block=1, groups=4, scaling_factor=3.0
    )
    loader = PictureLoader(MotionClips(size=16), batch_size=64, samples_per_epoch=64)
    scaled = with_unit_latents(vae, loader)
    images = loader.batch(3)["images"]
    latents = scaled.encode_video(images, chunk_size=64)
    assert abs(latents.std() - 1) < 0.1
    before, after = (ops.convert_to_numpy(model(images[:4])) for model in (vae, scaled))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)
    assert {**scaled.get_config(), "scaling_factor": 3.0} == vae.get_config()
