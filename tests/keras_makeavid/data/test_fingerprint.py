import keras
import numpy as np

from keras_makeavid.data.fingerprint import weights_fingerprint


def dense(seed):
    keras.utils.set_random_seed(seed)
    layer = keras.layers.Dense(3)
    return keras.Sequential([keras.Input((2,)), layer])


def test_the_same_weights_have_one_fingerprint_and_others_another():
    assert weights_fingerprint(dense(0)) == weights_fingerprint(dense(0))
    assert weights_fingerprint(dense(0)) != weights_fingerprint(dense(1))
    both = weights_fingerprint(dense(0), dense(1))
    assert both != weights_fingerprint(dense(1), dense(0))


def test_it_is_the_same_on_every_backend():
    model = dense(0)
    model.set_weights([np.array([[1, 2, 3], [4, 5, 6]]), np.array([7, 8, 9])])
    assert weights_fingerprint(model) == "3e258cbb3a7574e0"
