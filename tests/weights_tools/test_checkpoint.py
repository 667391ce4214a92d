import ml_dtypes
import numpy as np
import pytest

from weights_tools.checkpoint import all_finite


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
def test_every_bit_pattern_of_half_precision_is_told(dtype):
    every = np.arange(2**16, dtype="uint16").view(dtype)
    are_finite = np.isfinite(every.astype("float32"))
    assert all_finite(every[are_finite])
    for value in every[~are_finite]:
        assert not all_finite(np.array([1, value, 2], dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_told_and_sums_beyond_the_dtype_are_not(dtype, value):
    large = np.full(9, np.finfo(dtype).max)
    assert all_finite(large)
    large[4] = value
    assert not all_finite(large)
