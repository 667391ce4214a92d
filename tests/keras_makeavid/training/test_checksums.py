import ml_dtypes
import numpy as np
import pytest

from keras_makeavid.training.checkpoints import checksum, checksums

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "float32": RANDOM.standard_normal((7, 5), "float32"),
    "bfloat16": RANDOM.standard_normal(9).astype(ml_dtypes.bfloat16),
    "int32": RANDOM.integers(-9, 9, (2, 3), dtype="int32"),
    "uint8": RANDOM.integers(0, 9, 11, dtype="uint8"),
    "bool": np.array([True, False]),
    "scalar": np.array(3.5, "float32"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_any_flipped_bit_and_any_two_swapped_values_show(name):
    array = ARRAYS[name]
    before = checksums({name: array})[name]
    raw = np.frombuffer(array.tobytes(), "uint8")
    for place in range(raw.size):
        changed = raw.copy()
        changed[place] ^= 1
        changed = np.frombuffer(changed.tobytes(), array.dtype).reshape(array.shape)
        assert checksums({name: changed})[name] != before
    if array.size > 1 and len(np.unique(array)) == array.size:
        assert checksums({name: array.ravel()[::-1]})[name] != before


def test_on_the_device_they_are_the_same():
    import jax

    program = jax.jit(checksum, static_argnums=1)
    for array in ARRAYS.values():
        assert program(jax.numpy.asarray(array), jax.numpy) == checksum(array, np)


def test_they_are_those_of_the_words_in_one_row():
    words = np.arange(7, 31, dtype="uint32")
    expected = sum(int(word) * (2 * place + 1) for place, word in enumerate(words))
    assert checksum(words.reshape(2, 3, 4), np) == expected
    assert checksum(words.view("int64").reshape(3, 4), np) == expected
