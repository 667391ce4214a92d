"""The compiled loop that sampling will be, and training's arithmetic under jit."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_makeavid.schedulers import (
    DDIM,
    LCM,
    TCD,
    DPMSolverPlusPlus,
    Euler,
    EulerAncestral,
    NoiseSchedule,
    SamplerState,
    StepTable,
    UniPC,
    step,
)

NUM_STEPS = 20
SCHEDULERS = {
    "ddim": DDIM(),
    "ddim eta": DDIM(eta=0.7),
    "dpm++2m": DPMSolverPlusPlus(),
    "dpm++2m karras": DPMSolverPlusPlus(karras_sigmas=True),
    "unipc": UniPC(),
    "unipc karras": UniPC(karras_sigmas=True),
    "euler": Euler(),
    "euler ancestral": EulerAncestral(),
    "lcm": LCM(),
    "tcd": TCD(),
}


def compiled(function):
    """Compiles by the active backend's own means; torch runs as it is."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


def predict(numpy_like, sample, timestep):
    return numpy_like.tanh(sample) * 0.9 + numpy_like.cos(timestep * 0.01) * 0.05


def sampling_loop(table, sample, noise):
    def body(i, state):
        state, row = SamplerState(*state), StepTable.row(table[i])
        prediction = predict(ops, state.sample * row.input_scale, row.timestep)
        return tuple(step(row, state, prediction, noise[i]))

    start = tuple(SamplerState.start(sample))
    return ops.fori_loop(0, NUM_STEPS, body, start)[0]


def numpy_loop(table, sample, noise):
    state = SamplerState.start(sample)
    for values, fresh_noise in zip(table, noise, strict=True):
        row = StepTable.row(values)
        prediction = predict(np, state.sample * row.input_scale, row.timestep)
        state = step(row, state, prediction, fresh_noise)
    return state.sample


def start(scheduler):
    table = scheduler.table(NUM_STEPS)
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(NUM_STEPS + 1, 2, 3, 4, 4, 4)).astype("float32")
    return table.as_array(), noise[0] * np.float32(table.initial_sigma), noise[1:]


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS.keys())
def test_compiled_loop_equals_the_numpy_loop(scheduler):
    arguments = start(scheduler)
    expected = numpy_loop(*arguments)
    result = compiled(sampling_loop)(*map(ops.convert_to_tensor, arguments))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        ops.convert_to_numpy(result), expected, rtol=0, atol=1e-5 * scale
    )


def test_one_compiled_loop_serves_every_scheduler():
    traces = []

    def traced(*arguments):
        traces.append(arguments)
        return sampling_loop(*arguments)

    loop = compiled(traced)
    for scheduler in SCHEDULERS.values():
        loop(*map(ops.convert_to_tensor, start(scheduler)))
    eager = keras.backend.backend() == "torch"
    assert len(traces) == (len(SCHEDULERS) if eager else 1)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_training_arithmetic_is_the_same_compiled(prediction_type):
    schedule = NoiseSchedule(prediction_type=prediction_type)

    def arithmetic(latents, noise, timesteps):
        return (
            schedule.add_noise(latents, noise, timesteps),
            schedule.target(latents, noise, timesteps),
            schedule.signal_to_noise(timesteps),
        )

    generator = np.random.default_rng(0)
    latents, noise = generator.normal(size=(2, 3, 2, 4, 4, 4)).astype("float32")
    timesteps = np.array([0, 500, 999], "int32")
    tensors = [ops.convert_to_tensor(x) for x in (latents, noise, timesteps)]
    results = compiled(arithmetic)(*tensors)
    for result, expected in zip(results, arithmetic(*tensors), strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(result),
            ops.convert_to_numpy(expected),
            rtol=1e-6,
            atol=1e-6,
        )
