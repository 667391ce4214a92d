"""Group normalisation: over which axes, and in which precision."""

import numpy as np
import pytest
import torch
from keras import ops

from keras_makeavid.layers import GroupNormalization


def torch_group_norm(inputs, groups, epsilon):
    x = torch.from_numpy(np.moveaxis(inputs, -1, 1).astype("float64"))
    x = torch.nn.functional.group_norm(x, groups, eps=epsilon)
    return np.moveaxis(x.numpy(), 1, -1)


@pytest.mark.parametrize("shape", [(2, 5, 8), (2, 4, 6, 8), (2, 3, 4, 6, 8)])
@pytest.mark.parametrize("groups", [1, 4, 8])
def test_its_statistics_run_over_every_axis_between_batch_and_channels(shape, groups):
    inputs = np.random.default_rng(0).normal(1, 2, size=shape).astype("float32")
    outputs = ops.convert_to_numpy(GroupNormalization(groups, 1e-3)(inputs))
    np.testing.assert_allclose(
        outputs, torch_group_norm(inputs, groups, 1e-3), atol=5e-6, rtol=0
    )


def test_epsilon_decides_for_faint_inputs():
    inputs = 1e-3 * np.random.default_rng(0).normal(size=(1, 4, 4, 8))
    inputs = inputs.astype("float32")
    outputs = ops.convert_to_numpy(GroupNormalization(4, 1e-6)(inputs))
    np.testing.assert_allclose(
        outputs, torch_group_norm(inputs, 4, 1e-6), atol=5e-6, rtol=0
    )


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_bfloat16"])
def test_statistics_of_half_precision_inputs_are_those_of_float32(policy):
    # Sums of 32,768 such values overflow float16 and stand still in bfloat16.
    inputs = np.random.default_rng(0).normal(100, 8, size=(1, 64, 64, 16))
    layer = GroupNormalization(2, dtype=policy)
    inputs = ops.cast(inputs.astype("float32"), layer.compute_dtype)
    outputs = layer(inputs)
    expected = torch_group_norm(
        ops.convert_to_numpy(ops.cast(inputs, "float32")), 2, 1e-5
    )
    outputs = ops.convert_to_numpy(ops.cast(outputs, "float32"))
    rounding = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[layer.compute_dtype]
    np.testing.assert_allclose(outputs, expected, rtol=rounding, atol=2e-4)


def test_silu_may_follow_in_the_same_operation():
    inputs = np.random.default_rng(0).normal(1, 2, size=(2, 3, 4, 6, 8))
    layer = GroupNormalization(4, activated=True)
    expected = torch.nn.functional.silu(
        torch.from_numpy(torch_group_norm(inputs, 4, 1e-5))
    )
    outputs = ops.convert_to_numpy(layer(inputs.astype("float32")))
    np.testing.assert_allclose(outputs, expected.numpy(), atol=5e-6, rtol=0)
    assert GroupNormalization.from_config(layer.get_config()).activated


def test_channels_that_the_groups_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="Received: channels=6, groups=4"):
        GroupNormalization(4).build((None, 6))
