"""What every step of `fit` tells, beside Keras's mean of the loss."""

from __future__ import annotations

import keras
from keras import ops

from keras_makeavid.training.distribution import samples_apart


class LastValue(keras.metrics.Metric):
    """A metric that is its last value.

    Args:
        name: of the metric.

    Example:
    ```python
    loss = LastValue("step_loss")
    loss.update_state(0.5)
    float(loss.result())  # 0.5
    ```
    """

    def __init__(self, name: str):
        super().__init__(name=name, dtype="float32")
        self.value = self.add_variable((), initializer="zeros", name="value")

    def update_state(self, value):
        self.value.assign(value)

    def result(self):
        # Under PyTorch the next step writes into the variable's own tensor.
        return ops.copy(self.value)


class ReportingModel(keras.Model):
    """A model whose `fit` logs each step's own loss and what its optimizer reports.

    `loss` is Keras's mean over the epoch so far; `step_loss` is the step's. An
    optimizer reports by a dict of variables, `step_report`, as `AdamW` does. All are
    outputs of the compiled step: nobody waits for them who does not read them.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.step_loss = LastValue("step_loss")

    def make_train_function(self, force=False):
        # TensorFlow traces a step that makes variables on its way a second time.
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        super().make_train_function(force)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.step_loss.update_state(self.compute_loss(x, y, y_pred, sample_weight))
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def train_step(self, *arguments):
        # Keras wraps the optimizer of a float16 model in one that scales the loss.
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        report = getattr(optimizer, "step_report", {})
        if keras.config.backend() != "jax":
            logs = super().train_step(*arguments)
            return {**logs, **{name: ops.copy(v) for name, v in report.items()}}
        with samples_apart():
            logs, state = super().train_step(*arguments)
        values = dict(zip(map(id, self.optimizer.variables), state[2], strict=True))
        return {**logs, **{name: values[id(v)] for name, v in report.items()}}, state
