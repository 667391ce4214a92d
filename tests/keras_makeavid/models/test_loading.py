"""Models that are loaded under JAX draw no weights before."""

import threading

import keras
import numpy as np
import pytest
from keras import ops

from keras_makeavid import TextToVideo
from keras_makeavid.models.loading import weights_to_come

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "jax", reason="elsewhere drawing compiles nothing"
)


@pytest.fixture
def no_drawing(monkeypatch):
    """Weights cannot be drawn."""

    def refuse(*arguments, **options):
        raise AssertionError("a weight was drawn")

    for name in ("GlorotUniform", "RandomNormal", "VarianceScaling"):
        monkeypatch.setattr(getattr(keras.initializers, name), "__call__", refuse)


def test_a_preset_is_loaded_without_drawing_weights(preset, task, no_drawing):
    loaded = TextToVideo.from_preset(str(preset))
    for part in ("backbone", "vae", "text_encoder"):
        got, wanted = getattr(loaded, part).variables, getattr(task, part).variables
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(*map(ops.convert_to_numpy, (a, b)))


def test_without_the_weights_of_the_preset_they_are_drawn(preset, no_drawing):
    with pytest.raises(AssertionError, match="a weight was drawn"):
        TextToVideo.from_preset(str(preset), load_weights=False)


def kernel():
    dense = keras.layers.Dense(3)
    dense.build((None, 4))
    return ops.convert_to_numpy(dense.kernel)


def test_layers_of_other_threads_and_of_later_are_drawn():
    drawn = []
    with weights_to_come():
        thread = threading.Thread(target=lambda: drawn.append(kernel()))
        thread.start()
        thread.join()
        assert not kernel().any()
    assert drawn[0].all() and kernel().all()
