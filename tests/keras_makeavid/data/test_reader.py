import numpy as np
import pytest

from keras_makeavid.data.reader import StoredArray


@pytest.fixture
def array():
    return np.arange(60, dtype="float32").reshape(5, 3, 4)


@pytest.fixture
def stored(tmp_path, array):
    path = tmp_path / "file"
    path.write_bytes(b"header" + array.tobytes() + b"more")
    return StoredArray(path, array.dtype, array.shape, offset=6)


@pytest.mark.parametrize(("start", "stop"), [(0, None), (1, 3), (4, 5), (2, 2)])
def test_any_run_of_rows_is_read(stored, array, start, stop):
    np.testing.assert_array_equal(stored.read(start, stop), array[start:stop])


def test_a_file_that_became_shorter_is_an_error_that_names_it(stored):
    stored.path.write_bytes(stored.path.read_bytes()[:100])
    np.testing.assert_array_equal(stored.read(0, 1).ravel(), np.arange(12))
    with pytest.raises(ValueError, match="file has become shorter"):
        stored.read(1, 3)


def test_a_file_that_is_gone_is_an_error_that_names_it(stored):
    stored.path.unlink()
    with pytest.raises(FileNotFoundError, match="file"):
        stored.read()
