"""The denoising loop, on the task's UNet and with its programs."""

import keras
import numpy as np
import pytest
from keras import ops
from running import runner

from keras_makeavid.layers.unet import UNet
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.sampling import (
    Conditions,
    DenoisingLoop,
    given_shares,
    keep_given,
    nearest_frames,
    rescale_guided,
)
from keras_makeavid.schedulers import (
    NoiseSchedule,
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


def plain_loop(predict, noise, given, table, noise_keys=None, guided_steps=None):
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
        if given.guidance_rescale:
            prediction = rescale_noise_cfg(prediction, positive, given.guidance_rescale)
        if guided_steps is not None and i not in guided_steps:
            prediction = positive
        fresh_noise = None
        if noise_keys is not None:
            fresh_noise = ops.convert_to_numpy(step_noise(noise_keys, i, noise.shape))
        state = step(row, state, prediction, fresh_noise)
    return state.sample


@pytest.mark.parametrize(
    "scheduler",
    ["dpm++2m", "unipc", "ddim", "euler", "euler-ancestral", "lcm", "tcd"],
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


def test_with_low_memory_one_pass_of_guidance_follows_the_other(loop, predict):
    table = get_scheduler("dpm++2m").table(2)
    arguments = (normal(2, *SHAPE), conditions(batch=2), table)
    latents = ops.convert_to_numpy(loop(*arguments, low_memory=True))
    expected = plain_loop(predict, *arguments)
    np.testing.assert_allclose(
        latents, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )


# UniPC looks back over the ends of the stretches the most.
@pytest.mark.parametrize(
    "guided_steps", [range(6), range(2, 4), range(3), range(4, 6), range(0)], ids=str
)
def test_guidance_in_some_steps_equals_a_plain_loop(loop, predict, guided_steps):
    arguments = (normal(1, *SHAPE), conditions(), get_scheduler("unipc").table(6))
    latents = ops.convert_to_numpy(loop(*arguments, guided_steps=guided_steps))
    expected = plain_loop(predict, *arguments, guided_steps=guided_steps)
    np.testing.assert_allclose(
        latents, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )


def test_guidance_in_all_steps_is_guidance_to_the_bit(loop):
    arguments = (normal(1, *SHAPE), conditions(), get_scheduler("dpm++2m").table(4))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(loop(*arguments, guided_steps=range(4))),
        ops.convert_to_numpy(loop(*arguments)),
    )


def test_rescaled_guidance_equals_a_plain_loop(loop, predict):
    given = conditions()._replace(guidance_rescale=0.7)
    arguments = (normal(1, *SHAPE), given, get_scheduler("dpm++2m").table(4))
    latents = ops.convert_to_numpy(loop(*arguments))
    expected = plain_loop(predict, *arguments)
    np.testing.assert_allclose(
        latents, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )
    plain = ops.convert_to_numpy(loop(arguments[0], conditions(), arguments[2]))
    assert np.abs(latents - plain).max() > 0.01


def rescale_noise_cfg(guided, positive, share):
    """diffusers' own."""
    import torch
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion as peer

    tensors = (torch.tensor(x) for x in (guided, positive))
    return peer.rescale_noise_cfg(*tensors, guidance_rescale=share).numpy()


@pytest.mark.parametrize("shape", [(1, 8, 8, 4), (3, 5, 4, 6, 4)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_rescaled_guidance_equals_diffusers(shape, share):
    negative, positive = normal(2, *shape)
    guided = negative + 7.5 * (positive - negative)
    ours = rescale_guided(*map(ops.convert_to_tensor, (guided, positive)), share)
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours),
        rescale_noise_cfg(guided, positive, share),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("scheduler", ["dpm++2m", "lcm"])
def test_a_latent_does_not_depend_on_its_batch(loop, scheduler):
    noise, given = normal(2, *SHAPE), conditions(batch=2)
    table = get_scheduler(scheduler).table(2)
    noise_keys = keys(2) if table.needs_noise else None
    together = ops.convert_to_numpy(loop(noise, given, table, noise_keys))
    for i in (0, 1):
        context, negative_context, guidance_scale, mask, hint, *_ = given
        own = (context[i : i + 1], negative_context[i : i + 1], guidance_scale)
        own = Conditions(*own, mask[i : i + 1], hint[i : i + 1])
        own_keys = None if noise_keys is None else noise_keys[i : i + 1]
        alone = ops.convert_to_numpy(loop(noise[i : i + 1], own, table, own_keys))
        np.testing.assert_allclose(
            together[i], alone[0], rtol=0, atol=1e-5 * np.abs(alone).max()
        )


def trace(loop, *arguments, **options):
    """Runs the loop, not compiled; under JAX, where that is slow, traces it."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        jax.eval_shape(lambda: loop(*arguments, **options))
    elif backend == "tensorflow":
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
        try:
            loop(*arguments, **options)
        finally:
            tf.config.run_functions_eagerly(False)
    else:
        loop(*arguments, **options)


@pytest.mark.parametrize(
    "guidance_scale, guided_steps, batch",
    [(1.0, None, 1), (5.0, None, 2), (5.0, range(0), 1)],
)
def test_a_step_is_one_unet_pass_and_of_two_samples_only_if_guided(
    task, monkeypatch, guidance_scale, guided_steps, batch
):
    batches, call = [], UNet.call

    def counting_call(self, inputs, **kwargs):
        batches.append(len(inputs["sample"]))
        return call(self, inputs, **kwargs)

    monkeypatch.setattr(UNet, "call", counting_call)
    table = get_scheduler("ddim").table(1)
    loop = DenoisingLoop(task.backbone)
    given = conditions(1, guidance_scale)
    trace(loop, normal(1, *SHAPE), given, table, guided_steps=guided_steps)
    assert batches == [batch]


@pytest.mark.parametrize("guided_steps", [None, range(2, 5)], ids=str)
def test_steps_are_reported_in_order_when_they_are_done(loop, guided_steps):
    reports = []
    arguments = (normal(1, *SHAPE), conditions(), get_scheduler("euler").table(7))
    options = {"guided_steps": guided_steps}
    latents = loop(*arguments, progress=reports.append, **options)
    assert reports == [1, 2, 3, 4, 5, 6, 7]
    silent = ops.convert_to_numpy(loop(*arguments, **options))
    np.testing.assert_allclose(
        ops.convert_to_numpy(latents), silent, rtol=0, atol=1e-5 * np.abs(silent).max()
    )


# Deep features that are taken from an earlier step.


@pytest.fixture(scope="module", params=["pseudo3d", "motion_modules"])
def deeper_unet(request):
    """A UNet of two levels, all of whose parts do something."""
    unet = UNetPseudo3D(
        block_channels=(8, 16),
        attention_levels=(True, False),
        groups=4,
        context_dim=16,
        num_heads=2,
        temporal=request.param,
    )
    for seed, weight in enumerate(unet.weights):
        weight.assign(weight + 0.1 * normal(*weight.shape, seed=seed))
    return unet


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", ["video", "image", "spatial_only"])
def test_features_of_the_same_inputs_give_the_same_prediction(
    deeper_unet, layers, kind
):
    sample = normal(2, *SHAPE[:-1], 9)
    inputs = {"sample": sample[:, 0] if kind == "image" else sample}
    inputs |= {"timesteps": np.full(2, 500.0, "f4"), "context": normal(2, 12, 16)}
    inputs = keras.tree.map_structure(ops.convert_to_tensor, inputs)
    options = {"spatial_only": kind == "spatial_only"}
    plain = deeper_unet(inputs, **options)
    whole, deep = deeper_unet(inputs, layers=layers, **options)
    again, same = deeper_unet(inputs, layers=layers, deep=deep, **options)
    for prediction in (whole, again):
        np.testing.assert_allclose(
            ops.convert_to_numpy(prediction),
            ops.convert_to_numpy(plain),
            rtol=0,
            atol=2e-6,
        )
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, (same, deep)))
    other = deeper_unet(inputs, layers=layers, deep=deep + 1.0, **options)[0]
    assert np.abs(ops.convert_to_numpy(other - plain)).max() > 1e-3


@pytest.mark.parametrize(
    ("low_memory", "guidance_scale"), [(False, 1.0), (False, 5.0), (True, 5.0)]
)
def test_the_whole_unet_is_passed_in_one_of_so_many_steps(
    task, loop, low_memory, guidance_scale
):
    table = get_scheduler("ddim").table(5)
    noise, given = normal(1, *SHAPE), conditions(guidance_scale=guidance_scale)
    options = {"cache_interval": 3, "cache_layers": 2, "low_memory": low_memory}
    ours = ops.convert_to_numpy(loop(noise, given, table, **options))
    texts = [given.context]
    if guidance_scale != 1.0:
        texts.insert(0, given.negative_context)
    context, count = ops.convert_to_tensor(np.concatenate(texts)), len(texts)
    state, deep = SamplerState.start(noise), None
    for i, values in enumerate(table.as_array()):
        row = StepTable.row(values)
        sample = np.concatenate([state.sample, given.mask, given.hint], axis=-1)
        inputs = {"sample": np.concatenate([sample] * count), "context": context}
        inputs["timesteps"] = np.full(count, row.timestep, "f4")
        inputs = keras.tree.map_structure(ops.convert_to_tensor, inputs)
        taken = None if i % 3 == 0 else deep
        both, deep = task.backbone(inputs, layers=2, deep=taken)
        negative, *positive = np.split(ops.convert_to_numpy(both), count)
        prediction = negative
        for each in positive:
            prediction = negative + guidance_scale * (each - negative)
        state = step(row, state, prediction)
    np.testing.assert_allclose(ours, state.sample, rtol=0, atol=1e-4)
    plain = ops.convert_to_numpy(loop(noise, given, table, low_memory=low_memory))
    assert np.abs(plain - ours).max() > 1e-3


@pytest.mark.once
def test_an_interval_of_one_is_the_loop_without_a_cache(loop):
    table = get_scheduler("dpm++2m").table(3)
    noise, given = normal(1, *SHAPE), conditions()
    plain = ops.convert_to_numpy(loop(noise, given, table))
    cached = loop(noise, given, table, cache_interval=1)
    np.testing.assert_array_equal(ops.convert_to_numpy(cached), plain)


@pytest.mark.once
def test_pictures_are_cached_too(loop):
    table = get_scheduler("dpm++2m").table(4)
    noise, given = normal(1, *SHAPE[1:]), conditions(shape=SHAPE[1:])
    cached = loop(noise, given, table, cache_interval=2, cache_layers=1)
    spatial = loop(
        noise[:, None],
        given._replace(mask=given.mask[:, None], hint=given.hint[:, None]),
        table,
        spatial_only=True,
        cache_interval=2,
        cache_layers=1,
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(spatial)[:, 0],
        ops.convert_to_numpy(cached),
        rtol=0,
        atol=1e-5,
    )


def _denoised(row, sample, prediction):
    return sample * row.denoised_from_sample + prediction * row.denoised_from_prediction


@pytest.mark.parametrize("schedule", ["epsilon", "v_prediction"])
def test_what_is_given_is_expected_as_it_is_and_its_error_taken_off_the_rest(schedule):
    frames, given = 6, (0, 4)
    sample, prediction, hint = normal(3, 2, frames, 3, 5, 4)
    mask = np.ones((2, frames, 3, 5, 1), "float32")
    mask[:, given] = 0.0
    # A picture of which a part is given.
    mask[1, 4, :2] = 1.0
    table = get_scheduler("ddim", NoiseSchedule(prediction_type=schedule)).table(8)
    row = StepTable.row(table.as_array()[3])
    made = keep_given(
        row,
        *map(ops.convert_to_tensor, (sample, prediction, mask, hint)),
        ops.convert_to_tensor(given_shares(given, frames)),
    )
    made = _denoised(row, sample, ops.convert_to_numpy(made))
    before = _denoised(row, sample, prediction)
    error = np.where(mask == 0, hint - before, 0)
    mean = (
        error.sum((1, 2, 3), keepdims=True)
        / (mask == 0).sum((1, 2, 3))[:, None, None, None]
    )
    for frame, (nearest, distance) in enumerate(
        [(0, 1), (0, 1), (0, 2), (4, 1), (4, 1), (4, 1)]
    ):
        share = 1 / distance
        expected = before[:, frame] + share * error[:, nearest]
        expected = expected + (1 - share) * mean[:, 0]
        np.testing.assert_allclose(made[:, frame], expected, atol=2e-5)
    known = np.broadcast_to(mask == 0, hint.shape)
    np.testing.assert_allclose(made[known], hint[known], atol=2e-5)


# DDIM ends with a rest of noise, by which its frames differ.
@pytest.mark.parametrize("name", ["dpm++2m", "unipc", "euler-ancestral", "lcm"])
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_given_frames_arrive_where_they_were(loop, name, guidance_scale):
    noise, given = normal(2, *SHAPE), conditions(2, guidance_scale)
    mask = np.ones((2, *SHAPE[:-1], 1), "float32")
    mask[:, [0, 3]] = 0.0
    given = given._replace(mask=mask)
    table = get_scheduler(name).table(5)
    made = ops.convert_to_numpy(
        loop(
            noise,
            given,
            table,
            keys(2) if table.needs_noise else None,
            given_shares=given_shares((0, 3), SHAPE[0]),
        )
    )
    np.testing.assert_allclose(made[:, [0, 3]], given.hint[:, [0, 3]], atol=1e-4)
    assert np.isfinite(made).all()


def test_of_two_given_frames_as_near_the_earlier_counts():
    np.testing.assert_array_equal(nearest_frames({4, 0}, 6), [0, 0, 0, 4, 4, 4])
    shares = given_shares({4, 0}, 6)
    assert shares.dtype == np.float32
    np.testing.assert_array_equal(shares[:, 0], [1, 1, 0.5, 0, 0, 0])
    np.testing.assert_array_equal(shares[:, 4], [0, 0, 0, 1, 1, 1])
    assert not shares[:, [1, 2, 3, 5]].any()
