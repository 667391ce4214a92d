"""The denoising loop, on the task's UNet and with its programs."""

import keras
import numpy as np
import pytest
from keras import ops
from running import runner

from keras_makeavid.layers.unet import UNet
from keras_makeavid.sampling import Conditions, DenoisingLoop
from keras_makeavid.schedulers import (
    SamplerState,
    StepTable,
    get_scheduler,
    step,
    step_noise,
)

SHAPE = (4, 2, 2, 4)


@pytest.fixture(scope="module")
def loop(task):
    return task._video_loop


@pytest.fixture(scope="module")
def predict(task):
    return runner(task.backbone)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, "float32")


def conditions(batch=1, guidance_scale=5.0, shape=SHAPE):
    text, hint = normal(2, batch, 12, 16, seed=1), normal(batch, *shape, seed=2)
    mask = (normal(batch, *shape[:-1], 1, seed=3) > 0).astype("float32")
    return Conditions(*text, guidance_scale, mask, hint)


def keys(batch):
    return np.random.default_rng(4).integers(-(2**31), 2**31, (batch, 2), "int32")


def plain_loop(predict, noise, given, table, noise_keys):
    """The same in NumPy, step by step, one UNet pass for each prompt."""
    state = SamplerState.start(noise * np.float32(table.initial_sigma))
    for i, values in enumerate(table.as_array()):
        row = StepTable.row(values)
        inputs = [state.sample * row.input_scale, given.mask, given.hint]
        inputs = {
            "sample": np.concatenate(inputs, axis=-1),
            "timesteps": np.full(len(noise), row.timestep, "float32"),
        }
        negative = predict({**inputs, "context": given.negative_context})
        positive = predict({**inputs, "context": given.context})
        prediction = negative + given.guidance_scale * (positive - negative)
        fresh_noise = None
        if noise_keys is not None:
            fresh_noise = ops.convert_to_numpy(step_noise(noise_keys, i, noise.shape))
        state = step(row, state, prediction, fresh_noise)
    return state.sample


@pytest.mark.parametrize(
    "scheduler",
    ["dpm++2m", "dpm++3m", "unipc", "ddim", "euler", "euler-ancestral", "lcm", "tcd"],
)
def test_the_loop_equals_a_plain_loop_over_the_step_table(loop, predict, scheduler):
    table = get_scheduler(scheduler).table(4)
    noise_keys = keys(1) if table.needs_noise else None
    arguments = (normal(1, *SHAPE), conditions(), table, noise_keys)
    latents = ops.convert_to_numpy(loop(*arguments))
    expected = plain_loop(predict, *arguments)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(
        latents, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize("scheduler", ["dpm++2m", "lcm"])
def test_a_latent_does_not_depend_on_its_batch(loop, scheduler):
    noise, given = normal(2, *SHAPE), conditions(batch=2)
    table = get_scheduler(scheduler).table(2)
    noise_keys = keys(2) if table.needs_noise else None
    together = ops.convert_to_numpy(loop(noise, given, table, noise_keys))
    for i in (0, 1):
        context, negative_context, guidance_scale, mask, hint = given
        own = (context[i : i + 1], negative_context[i : i + 1], guidance_scale)
        own = Conditions(*own, mask[i : i + 1], hint[i : i + 1])
        own_keys = None if noise_keys is None else noise_keys[i : i + 1]
        alone = ops.convert_to_numpy(loop(noise[i : i + 1], own, table, own_keys))
        np.testing.assert_allclose(
            together[i], alone[0], rtol=0, atol=1e-5 * np.abs(alone).max()
        )


def trace(loop, *arguments):
    """Runs the loop, not compiled; under JAX, where that is slow, traces it."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        jax.eval_shape(lambda: loop(*arguments))
    elif backend == "tensorflow":
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
        try:
            loop(*arguments)
        finally:
            tf.config.run_functions_eagerly(False)
    else:
        loop(*arguments)


@pytest.mark.parametrize("guidance_scale, batch", [(1.0, 1), (5.0, 2)])
def test_a_step_is_one_unet_pass_and_of_two_samples_only_if_guided(
    task, monkeypatch, guidance_scale, batch
):
    batches, call = [], UNet.call

    def counting_call(self, inputs, **kwargs):
        batches.append(len(inputs["sample"]))
        return call(self, inputs, **kwargs)

    monkeypatch.setattr(UNet, "call", counting_call)
    table = get_scheduler("ddim").table(1)
    loop = DenoisingLoop(task.backbone)
    trace(loop, normal(1, *SHAPE), conditions(1, guidance_scale), table)
    assert batches == [batch]


def test_steps_are_reported_in_order_when_they_are_done(loop):
    reports = []
    arguments = (normal(1, *SHAPE), conditions(), get_scheduler("euler").table(7))
    latents = loop(*arguments, progress=reports.append)
    assert reports == [1, 2, 3, 4, 5, 6, 7]
    silent = ops.convert_to_numpy(loop(*arguments))
    np.testing.assert_allclose(
        ops.convert_to_numpy(latents), silent, rtol=0, atol=1e-5 * np.abs(silent).max()
    )
