"""Models that are loaded draw no weights before."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_makeavid import TextToVideo
from keras_makeavid.layers.convolution import TemporalIdentity
from keras_makeavid.layers.operations import products
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.models.loading import without_weights

jax_only = pytest.mark.skipif(
    keras.config.backend() != "jax", reason="elsewhere a variable is its memory"
)


def refuse(*arguments, **options):
    raise AssertionError("a weight was drawn")


@pytest.fixture
def no_drawing(monkeypatch):
    """Weights cannot be drawn; those of the text encoder can, but under JAX."""
    kinds = [products.GlorotUniform, TemporalIdentity]
    if keras.config.backend() == "jax":
        names = ("GlorotUniform", "RandomNormal", "VarianceScaling")
        kinds += [getattr(keras.initializers, name) for name in names]
    for kind in kinds:
        monkeypatch.setattr(kind, "__call__", refuse)


def test_a_preset_is_loaded_without_drawing_weights(preset, task, no_drawing):
    loaded = TextToVideo.from_preset(str(preset))
    for part in ("backbone", "vae", "text_encoder"):
        got, wanted = getattr(loaded, part).variables, getattr(task, part).variables
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(*map(ops.convert_to_numpy, (a, b)))


def test_a_backbone_alone_is_loaded_without_drawing_weights(
    preset, task, no_drawing, monkeypatch
):
    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", refuse)
    loaded = UNetPseudo3D.from_preset(str(preset))
    for a, b in zip(loaded.variables, task.backbone.variables, strict=True):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (a, b)))


def test_without_the_weights_of_the_preset_they_are_drawn(preset, no_drawing):
    with pytest.raises(AssertionError, match="a weight was drawn"):
        TextToVideo.from_preset(str(preset), load_weights=False)


def make_dense():
    dense = keras.layers.Dense(3)
    dense.build((None, 4))
    return dense


def test_nothing_of_keras_is_replaced_and_other_layers_are_drawn(preset):
    add_weight = keras.layers.Layer.add_weight
    TextToVideo.from_preset(str(preset))
    assert keras.layers.Layer.add_weight is add_weight
    assert ops.convert_to_numpy(make_dense().kernel).all()


@jax_only
def test_a_layer_without_weights_takes_those_assigned(no_drawing):
    dense = without_weights(make_dense)
    dense.kernel.assign(np.ones((4, 3)))
    dense.bias.assign(np.zeros(3))
    np.testing.assert_array_equal(ops.convert_to_numpy(dense(np.ones((1, 4)))), 4.0)


@jax_only
def test_the_dtype_policy_of_the_caller_holds():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert without_weights(make_dense).dtype_policy.name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)
