"""What holds for each public layer: configuration, shapes, saving, precision."""

import inspect
import json

import keras
import numpy as np
import pytest
from running import runner

from keras_makeavid import layers

TOKENS, TEXT, TIME = (2, 5, 8), (2, 7, 6), (2, 12)
IMAGE, VIDEO = (2, 6, 4, 8), (2, 3, 6, 4, 8)

# Each with arguments that are not the defaults, the shapes of its inputs, and that
# of its output.
CASES = {
    "Attention": (
        lambda **k: layers.Attention(8, 2, output_initializer="ones", **k),
        [TOKENS],
        TOKENS,
    ),
    "Attention to text": (
        lambda **k: layers.Attention(8, 2, **k),
        [TOKENS, TEXT],
        TOKENS,
    ),
    "Downsample": (lambda **k: layers.Downsample(4, **k), [VIDEO], (2, 3, 3, 2, 4)),
    "Downsample, image": (lambda **k: layers.Downsample(4, **k), [IMAGE], (2, 3, 2, 4)),
    "Downsample, no time": (
        lambda **k: layers.Downsample(4, temporal=False, **k),
        [VIDEO],
        (2, 3, 3, 2, 4),
    ),
    "FeedForward": (
        lambda **k: layers.FeedForward(8, gelu="exact", **k),
        [TOKENS],
        TOKENS,
    ),
    "FramePositions": (
        lambda **k: layers.FramePositions(2, interpolate=True, **k),
        [(2, 3, 5, 8)],
        (2, 3, 5, 8),
    ),
    "GroupNormalization": (
        lambda **k: layers.GroupNormalization(groups=2, epsilon=1e-3, **k),
        [VIDEO],
        VIDEO,
    ),
    "LayerNormalization": (
        lambda **k: layers.LayerNormalization(epsilon=1e-3, **k),
        [TOKENS],
        TOKENS,
    ),
    "TemporalAttention": (
        lambda **k: layers.TemporalAttention(8, 2, output_initializer="ones", **k),
        [(2, 3, 5, 8)],
        (2, 3, 5, 8),
    ),
    "MotionModule": (
        lambda **k: layers.MotionModule(
            8, 2, positions=4, groups=2, norm_over_frames=True, interpolate=True, **k
        ),
        [VIDEO],
        VIDEO,
    ),
    "PseudoConv3D": (
        lambda **k: layers.PseudoConv3D(4, 5, 2, **k),
        [(2, 3, 5, 4, 8)],
        (2, 3, 3, 2, 4),
    ),
    "PseudoConv3D, image": (
        lambda **k: layers.PseudoConv3D(4, **k),
        [IMAGE],
        (2, 6, 4, 4),
    ),
    "PseudoConv3D, no time": (
        lambda **k: layers.PseudoConv3D(4, temporal=False, **k),
        [VIDEO],
        (2, 3, 6, 4, 4),
    ),
    "ResidualBlock": (
        lambda **k: layers.ResidualBlock(4, groups=2, epsilon=1e-3, **k),
        [VIDEO, TIME],
        (2, 3, 6, 4, 4),
    ),
    "ResidualBlock, image": (
        lambda **k: layers.ResidualBlock(8, groups=2, **k),
        [IMAGE, TIME],
        IMAGE,
    ),
    "ResidualBlock, no time": (
        lambda **k: layers.ResidualBlock(4, groups=2, temporal=False, **k),
        [VIDEO, TIME],
        (2, 3, 6, 4, 4),
    ),
    "SpatialConv": (
        lambda **k: layers.SpatialConv(4, kernel_size=5, strides=2, **k),
        [(2, 7, 4, 8)],
        (2, 4, 2, 4),
    ),
    "SpatioTemporalTransformer": (
        lambda **k: layers.SpatioTemporalTransformer(
            8, num_heads=2, gelu="exact", groups=2, epsilon=1e-6, **k
        ),
        [VIDEO, TEXT],
        VIDEO,
    ),
    "SpatioTemporalTransformer, no time": (
        lambda **k: layers.SpatioTemporalTransformer(
            8, num_heads=2, groups=2, temporal=False, **k
        ),
        [VIDEO, TEXT],
        VIDEO,
    ),
    "TemporalConv": (
        lambda **k: layers.TemporalConv(**k),
        [VIDEO],
        VIDEO,
    ),
    "TimestepEmbedding": (
        lambda **k: layers.TimestepEmbedding(8, 12, **k),
        [(2,)],
        TIME,
    ),
    "TransformerBlock": (
        lambda **k: layers.TransformerBlock(8, num_heads=2, gelu="exact", **k),
        [(2, 3, 5, 8), TEXT],
        (2, 3, 5, 8),
    ),
    "Upsample": (lambda **k: layers.Upsample(4, **k), [VIDEO], (2, 3, 12, 8, 4)),
}
each_case = pytest.mark.parametrize(
    ("make", "input_shapes", "output_shape"), CASES.values(), ids=CASES
)


def arrays(shapes):
    random = np.random.default_rng(0)
    return [random.normal(size=shape).astype("float32") for shape in shapes]


def test_every_public_layer_has_a_case():
    public = {
        name
        for name in layers.__all__
        if inspect.isclass(getattr(layers, name))
        and issubclass(getattr(layers, name), keras.layers.Layer)
    }
    assert public == {name.split()[0].rstrip(",") for name in CASES}


@each_case
def test_its_configuration_goes_through_json(make, input_shapes, output_shape):
    layer = make(name="named")
    serialized = json.dumps(keras.saving.serialize_keras_object(layer))
    again = keras.saving.deserialize_keras_object(json.loads(serialized))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    arguments = inspect.signature(type(layer).__init__).parameters.keys()
    assert arguments - {"self", "kwargs"} <= layer.get_config().keys()


@each_case
def test_its_output_has_the_shape_that_it_tells_ahead(make, input_shapes, output_shape):
    layer = make()
    assert layer.compute_output_shape(*input_shapes) == output_shape
    symbolic = layer(*(keras.KerasTensor(shape) for shape in input_shapes))
    assert symbolic.shape == output_shape
    assert runner(layer)(*arrays(input_shapes)).shape == output_shape


@each_case
def test_it_is_saved_in_a_functional_model(make, input_shapes, output_shape, tmp_path):
    inputs = [keras.Input(shape[1:]) for shape in input_shapes]
    model = keras.Model(inputs, make()(*inputs))
    assert model.output_shape == (None, *output_shape[1:])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.layers[-1]) is type(model.layers[-1])
    assert model.weights
    for old, new in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@each_case
@pytest.mark.parametrize(
    ("policy", "variable_dtype", "compute_dtype"),
    [
        ("bfloat16", "bfloat16", "bfloat16"),
        ("mixed_bfloat16", "float32", "bfloat16"),
        ("mixed_float16", "float32", "float16"),
    ],
)
def test_its_weights_and_output_have_the_dtypes_of_the_policy(
    make, input_shapes, output_shape, policy, variable_dtype, compute_dtype
):
    layer = make(dtype=policy)
    outputs = layer(*(keras.KerasTensor(shape) for shape in input_shapes))
    assert {v.dtype for v in layer.variables} == {variable_dtype}
    assert outputs.dtype == compute_dtype


@pytest.mark.parametrize(
    "name", [name for name, (_, shapes, _) in CASES.items() if len(shapes) == 1]
)
def test_it_is_part_of_a_sequential(name):
    make, (shape,), output_shape = CASES[name]
    model = keras.Sequential([keras.Input(shape[1:]), make()])
    assert model.output_shape == (None, *output_shape[1:])
