import keras
import numpy as np
import pytest
from keras import ops

from keras_makeavid.compilation import compile_inference

compiles = pytest.mark.skipif(
    keras.config.backend() == "torch", reason="torch runs without compilation"
)


def dense_layer():
    layer = keras.layers.Dense(2, use_bias=False)
    layer.build((None, 3))
    return layer


@compiles
def test_a_function_is_compiled_once_for_all_values():
    layer, traces = dense_layer(), []

    def function(x):
        traces.append(x)
        return layer(x)

    program = compile_inference(function, [layer])
    for value in (1.0, 2.0):
        inputs = np.full((4, 3), value, "float32")
        outputs = program(ops.convert_to_tensor(inputs))
        np.testing.assert_allclose(outputs, inputs @ np.array(layer.kernel), rtol=1e-6)
    assert len(traces) == 1


def test_new_weights_are_used_without_compiling_again():
    layer, traces = dense_layer(), []

    def function(x):
        traces.append(x)
        return layer(x)

    program = compile_inference(function, [layer])
    inputs = ops.ones((4, 3))
    program(inputs)
    layer.kernel.assign(np.full((3, 2), 5.0))
    np.testing.assert_array_equal(ops.convert_to_numpy(program(inputs)), 15.0)
    eager = keras.config.backend() == "torch"
    assert len(traces) == (2 if eager else 1)


def test_arguments_may_be_trees_with_nothing_in_places():
    def function(tree, nothing):
        assert nothing is None
        return {"sum": tree["a"] + tree["b"][0]}

    program = compile_inference(function, [])
    result = program({"a": ops.ones(2), "b": (ops.ones(2),)}, None)
    np.testing.assert_array_equal(ops.convert_to_numpy(result["sum"]), 2.0)
