import itertools
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from weights_tools import layouts
from weights_tools.layouts import contiguous

DTYPES = ["float32", "float16", ml_dtypes.bfloat16, "float64", "int64"]


@pytest.fixture(params=[True, False], ids=["opencv", "no_opencv"], autouse=True)
def opencv(request, monkeypatch):
    """Whether OpenCV can be loaded: a slim container has no libGL."""
    if not request.param:
        monkeypatch.setitem(sys.modules, "cv2", None)
    layouts._opencv.cache_clear()
    yield request.param
    layouts._opencv.cache_clear()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [
        *((), (5,), (1,), (1, 1), (4, 300), (700, 3), (0, 4)),
        *((320, 9, 3, 3), (6, 5, 1, 1), (1, 1, 3, 3), (33, 65, 3, 3), (2, 97, 3)),
    ],
)
def test_every_order_of_axes_gives_the_same_values(shape, dtype):
    array = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for order in itertools.permutations(range(len(shape))):
        turned = array.transpose(order)
        made = contiguous(turned)
        assert made.flags.c_contiguous
        assert made.dtype == turned.dtype
        assert made.shape == turned.shape
        assert made.tobytes() == turned.tobytes()


def test_what_is_contiguous_is_not_copied():
    array = np.zeros((3, 4), "float32")
    assert contiguous(array) is array


def test_a_slice_is_copied_as_it_is():
    array = np.arange(60.0).reshape(5, 4, 3)[::2, 1:, ::-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(contiguous(array), array)


@pytest.mark.parametrize("shape", [(7, 33, 3, 3), (3, 33, 40), (70, 35)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_view_of_a_mapped_file_is_turned(shape, dtype):
    """Read-only, and not aligned."""
    array = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    mapped = np.ndarray(shape, dtype, b"x" + array.tobytes(), 1)
    assert not mapped.flags.aligned
    assert not mapped.flags.writeable
    assert contiguous(mapped.T).tobytes() == array.T.tobytes()


def test_bits_that_are_no_ordinary_number_are_kept():
    bits = np.random.default_rng(0).integers(0, 2**16, (65, 33), "uint16")
    for dtype in ("float16", ml_dtypes.bfloat16):
        assert contiguous(bits.view(dtype).T).tobytes() == bits.T.tobytes()


@pytest.mark.parametrize("opencv", [False], indirect=True)
def test_the_package_can_be_imported_without_opencv(opencv):
    # Keras looks for OpenCV too, and goes on where it is missing.
    code = "import sys; sys.modules['cv2'] = None; import weights_tools"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_opencv_is_used_where_it_is_there(opencv):
    assert (layouts._opencv() is not None) == opencv
