"""The steps on each backend's own tensors, against diffusers' schedulers."""

import pytest
from keras import ops
from trajectories import NUM_STEPS, SCHEDULERS, largest_error


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_sample_equals_diffusers_on_this_backend(name):
    for num_steps in NUM_STEPS:
        for prediction_type in ("epsilon", "v_prediction"):
            error = largest_error(
                name,
                num_steps,
                ops.convert_to_tensor,
                prediction_type=prediction_type,
            )
            assert error <= 1e-5
