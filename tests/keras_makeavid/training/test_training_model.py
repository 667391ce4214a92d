import keras
import numpy as np
import pytest

from keras_makeavid.training import AdamW
from keras_makeavid.training.training_model import ReportingModel


class OneNumber(ReportingModel):
    """Learns the number 1, computing in its policy's dtype."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # Any far from 1 would have gradients that float16 cannot hold, once scaled.
        kernel = keras.initializers.Constant(0.5)
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
