"""FreeInit's noise against diffusers."""

import numpy as np
import pytest
import torch
from diffusers.pipelines.free_init_utils import FreeInitMixin

from keras_makeavid.freeinit import mixed_noise

pytestmark = pytest.mark.once


@pytest.mark.parametrize("shape", [(2, 16, 8, 8, 4), (1, 5, 6, 7, 3), (1, 1, 4, 4, 4)])
def test_it_agrees_with_diffusers(shape):
    noised, fresh = np.random.default_rng(0).standard_normal((2, *shape), "float32")
    first = [torch.from_numpy(np.moveaxis(x, -1, 1).copy()) for x in (noised, fresh)]
    peer = FreeInitMixin()
    keep = peer._get_free_init_freq_filter(
        (1, *first[0].shape[1:]), "cpu", "butterworth", 4, 0.25, 0.25
    )
    theirs = np.moveaxis(peer._apply_freq_filter(*first, keep).numpy(), 1, -1)
    ours = mixed_noise(noised, fresh)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)
    assert ours.dtype == np.float32


def test_noise_stays_what_it_is_where_both_are_one():
    noise = np.random.default_rng(0).standard_normal((1, 4, 4, 4, 2), "float32")
    np.testing.assert_allclose(mixed_noise(noise, noise), noise, rtol=0, atol=1e-6)
