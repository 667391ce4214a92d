"""FreeU's joins against diffusers."""

import numpy as np
import pytest
import torch
from diffusers.utils.torch_utils import apply_freeu
from keras import ops

from keras_makeavid.layers.unet import joined


@pytest.mark.parametrize(
    "shape", [(2, 8, 8), (1, 6, 10), (1, 5, 7), (2, 1, 4), (1, 2, 2), (2, 3, 4, 6)]
)
@pytest.mark.parametrize("level", [0, 1])
def test_it_agrees_with_diffusers(shape, level):
    rng = np.random.default_rng(0)
    x, skip = (rng.standard_normal((*shape, c), "float32") for c in (6, 4))
    factors = (1.4, 0.3)
    names = {f"b{level + 1}": factors[0], f"s{level + 1}": factors[1]}
    theirs = apply_freeu(
        level, *map(images_first, (x, skip)), **{"b1": 9, "b2": 9, **names}
    )
    theirs = np.moveaxis(torch.cat(theirs, dim=1).numpy(), 1, -1)
    ours = ops.convert_to_numpy(joined(*map(ops.convert_to_tensor, (x, skip)), factors))
    np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=0, atol=2e-6)


def images_first(x):
    x = np.moveaxis(x.reshape(-1, *x.shape[-3:]), -1, 1)
    return torch.from_numpy(x.copy())


def test_factors_of_one_change_nothing():
    arrays = np.random.default_rng(0).standard_normal((2, 1, 4, 4, 6), "float32")
    x, skip = map(ops.convert_to_tensor, arrays)
    same = ops.convert_to_numpy(joined(x, skip, (1.0, 1.0)))
    np.testing.assert_array_equal(same, ops.convert_to_numpy(joined(x, skip)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_keeps_half_precision(dtype):
    x = ops.cast(np.ones((1, 4, 4, 6), "float32"), dtype)
    assert joined(x, x, (1.3, 0.5)).dtype in (dtype, getattr(torch, dtype))
