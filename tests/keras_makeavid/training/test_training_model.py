import keras
import numpy as np
import pytest

from keras_makeavid.training import AdamW
from keras_makeavid.training.training_model import ReportingModel


class OneNumber(ReportingModel):
    """Learns the number 1, computing in its policy's dtype."""

    def __init__(self, start=0.5, **kwargs):
        super().__init__(**kwargs)
        # Any far from 1 has gradients that float16 cannot hold, once scaled.
        kernel = keras.initializers.Constant(start)
        self.dense = keras.layers.Dense(
            1, kernel_initializer=kernel, dtype=self.dtype_policy
        )
        self.dense.build((None, 1))
        self.built = True

    def call(self, inputs):
        return self.dense(inputs)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        error = keras.ops.cast(y_pred, "float32") - 1.0
        return keras.ops.mean(keras.ops.square(error))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_what_is_logged_does_not_depend_on_the_policy(policy):
    model = OneNumber(dtype=policy)
    model.compile(optimizer=AdamW(learning_rate=0.125))
    history = model.fit(np.ones((2, 1), "float32"), batch_size=1, verbose=0).history
    assert history.keys() == {"loss", "step_loss", "grad_norm", "lr", "skipped_total"}
    assert history["grad_norm"][0] > 0
    assert history["lr"] == [0.125]
    assert history["skipped_total"] == [0]


def test_keras_halves_the_scale_of_float16_until_gradients_fit():
    model = OneNumber(start=64.0, dtype="mixed_float16")
    model.compile(optimizer=AdamW(learning_rate=0.125))
    kernel = keras.ops.convert_to_numpy(model.dense.kernel)
    model.fit(np.ones((1, 1), "float32"), verbose=0, epochs=2)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(model.dense.kernel), kernel
    )
    for _ in range(12):
        history = model.fit(np.ones((1, 1), "float32"), verbose=0).history
    assert history["grad_norm"][0] > 0
    assert keras.ops.convert_to_numpy(model.dense.kernel) < kernel
