"""Latent consistency distillation, against diffusers' schedulers and a known answer."""

import keras
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler
from keras import ops

from keras_makeavid import TextToVideo
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.training import (
    AdamW,
    ConsistencyDistillation,
    add_lora,
    read_metrics,
    train,
)
from keras_makeavid.training.phases import rematerialise_blocks
from keras_makeavid.training.trainable import without_lora


def small_unet(**changes):
    config = {
        "block_channels": (8, 16),
        "layers_per_block": 1,
        "num_heads": 2,
        "attention_levels": (True, False),
        "context_dim": 8,
        "groups": 4,
    }
    keras.utils.set_random_seed(0)
    return UNetPseudo3D(**{**config, **changes})


def distillation(unet, **options):
    settings = {
        "schedule": NoiseSchedule(),
        "latent_scale": 0.5,
        "trainable": "all",
        "empty_context": np.ones((3, 8), "float32"),
        "seed": 0,
    }
    return ConsistencyDistillation(unet, **{**settings, **options})


def batch(size=2):
    rng = np.random.default_rng(0)
    return {
        "latents": rng.standard_normal((size, 3, 4, 4, 4), "float32"),
        "context": rng.standard_normal((size, 3, 8), "float32"),
    }


def values(model):
    return [ops.convert_to_numpy(variable) for variable in model.variables]


class TimestepTable(keras.Model):
    """Predicts its sample times a number for each timestep."""

    in_channels = out_channels = 1

    def __init__(self):
        super().__init__()
        self.factors = keras.layers.Embedding(1000, 1)
        self.factors.build()

    def call(self, inputs):
        factors = self.factors(inputs["timesteps"])
        return inputs["sample"] * ops.reshape(factors, (-1, 1, 1, 1, 1))

    def get_config(self):
        return {}


@pytest.mark.once
def test_of_a_gaussian_the_one_step_map_is_the_analytic_one():
    deviation, grid = 0.5, 50
    schedule = NoiseSchedule(prediction_type="v_prediction")
    signal, noise = (
        np.sqrt(x) for x in (schedule.alphas_cumprod, 1 - schedule.alphas_cumprod)
    )
    # Of data N(0, 0.5 ** 2), the mean of v given the sample.
    variance = (signal * deviation) ** 2 + noise**2
    teacher = signal * noise * (1 - deviation**2) / variance
    unet = TimestepTable()
    unet.factors.embeddings.assign(teacher[:, None])
    options = {"schedule": schedule, "latent_scale": 1.0, "guidance": (1.0, 1.0)}
    model = distillation(unet, grid=grid, **options)
    rate = keras.optimizers.schedules.CosineDecay(0.05, 1500)
    model.compile(optimizer=keras.optimizers.Adam(rate))
    latents = deviation * np.random.default_rng(0).standard_normal((2**16, 1, 1, 1, 1))
    data = {"latents": latents.astype("float32"), "context": np.zeros((2**16, 3, 8))}
    model.fit(data, batch_size=256, epochs=6, verbose=0)
    learnt = ops.convert_to_numpy(unet.factors.embeddings)[:, 0]
    steps, earlier = 1.0, 0
    for timestep in range(1000 // grid - 1, 1000, 1000 // grid):
        a, s, v = signal[timestep], noise[timestep], teacher[timestep]
        clean, noisy = a - s * v, s + a * v
        steps *= signal[earlier] * clean + noise[earlier] * noisy
        earlier = timestep
        jump = a - s * learnt[timestep]
        # All of the teacher's steps at once.
        assert jump == pytest.approx(steps, abs=3e-3)
        # The probability flow keeps the number of deviations; 50 steps come near it.
        assert jump == pytest.approx(
            np.sqrt(variance[0] / variance[timestep]), rel=0.06
        )


@pytest.mark.parametrize(
    "prediction_type",
    [
        "v_prediction",
        *(pytest.param(name, marks=pytest.mark.once) for name in ("epsilon", "sample")),
    ],
)
def test_the_target_is_made_by_the_steps_of_diffusers(prediction_type, monkeypatch):
    grid, guidance = 20, 3.0
    schedule = NoiseSchedule(prediction_type=prediction_type)
    unet = small_unet()
    model = distillation(unet, schedule=schedule, guidance=(1.0, 5.0), grid=grid)
    for variable in model.average.variables:
        variable.assign(variable * 1.1)
    data = batch(3)
    number = np.array([1, 7, grid])
    noise = np.random.default_rng(1).standard_normal((3, 3, 4, 4, 4), "float32")
    draws = {
        "randint": lambda *_, **__: ops.convert_to_tensor(number, "int32"),
        "normal": lambda *_, **__: ops.convert_to_tensor(noise),
        "uniform": lambda *_, **__: ops.full((3, 1, 1, 1, 1), guidance),
    }
    for name, draw in draws.items():
        monkeypatch.setattr(keras.random, name, draw)
    given = [ops.zeros((3, 3, 4, 4, 1)), ops.zeros((3, 3, 4, 4, 4))]
    monkeypatch.setattr(model, "_conditions", lambda latents: given)
    ours = model(keras.tree.map_structure(ops.convert_to_tensor, data))

    def ask(unet, sample, timesteps, context):
        sample = np.concatenate([sample, *map(ops.convert_to_numpy, given)], axis=-1)
        asked = {"sample": sample, "timesteps": timesteps, "context": context}
        asked = keras.tree.map_structure(ops.convert_to_tensor, asked)
        return ops.convert_to_numpy(unet(asked))

    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    options = {**betas, "prediction_type": prediction_type, "clip_sample": False}
    ddim = DDIMScheduler(**options, timestep_spacing="trailing", set_alpha_to_one=False)
    ddim.set_timesteps(grid)
    lcm = LCMScheduler(**betas)

    def jump(unet, sample, timesteps):
        told = ask(unet, sample, timesteps, data["context"])
        rows = []
        for x, prediction, t in zip(sample, told, timesteps, strict=True):
            arrays = [torch.from_numpy(each.copy()) for each in (prediction, x)]
            clean = ddim.step(arrays[0], int(t), arrays[1]).pred_original_sample
            c_skip, c_out = lcm.get_scalings_for_boundary_condition_discrete(int(t))
            rows.append(c_skip * x + c_out * clean.numpy())
        return np.stack(rows)

    later = number * (1000 // grid) - 1
    latents = 0.5 * data["latents"]
    tensors = map(torch.from_numpy, (latents, noise, later))
    noisy = ddim.add_noise(*tensors).numpy()
    empty = np.ones((3, 3, 8), "float32")
    negative = ask(model.teacher, noisy, later, empty)
    positive = ask(model.teacher, noisy, later, data["context"])
    told = negative + guidance * (positive - negative)
    earlier = np.maximum(later - 1000 // grid, 0)
    moved = np.stack(
        [
            ddim.step(torch.from_numpy(p), int(t), torch.from_numpy(x)).prev_sample
            for p, t, x in zip(told, later, noisy, strict=True)
        ]
    )
    expected = {
        "prediction": jump(unet, noisy, later),
        "target": jump(model.average, moved, earlier),
    }
    for name, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(
            ops.convert_to_numpy(ours[name]) / scale, value / scale, rtol=0, atol=1e-5
        )
    huber = np.sqrt((expected["prediction"] - expected["target"]) ** 2 + 1e-6) - 1e-3
    loss = model.compute_loss(y_pred=ours)
    loss = float(ops.convert_to_numpy(loss))
    assert loss == pytest.approx(huber.mean(), rel=1e-4)


def test_at_timestep_0_a_jump_is_the_identity():
    c_skip, c_out = LCMScheduler().get_scalings_for_boundary_condition_discrete(0)
    assert (c_skip, c_out) == (1, 0)


def test_the_average_follows_and_the_teacher_stays():
    unet = small_unet()
    model = distillation(unet, ema=0.75)
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    start = values(unet)
    model.fit(batch(), batch_size=2, epochs=1, verbose=0)
    first = values(unet)
    model.fit(batch(), batch_size=2, epochs=1, verbose=0)
    for old, new, average, teacher in zip(
        start, first, values(model.average), values(model.teacher), strict=True
    ):
        np.testing.assert_array_equal(teacher, old)
        np.testing.assert_allclose(average, 0.75 * old + 0.25 * new, rtol=0, atol=1e-6)
    before = values(model.average)
    model.evaluate(batch(), batch_size=2, verbose=0)
    for old, new in zip(before, values(model.average), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.once
def test_adapters_alone_are_distilled():
    unet = small_unet()
    add_lora(unet, rank=2, alpha=2.0)
    model = distillation(unet, trainable="lora")
    model.compile(optimizer=AdamW(learning_rate=1e-2))
    before = {v.path: ops.convert_to_numpy(v) for v in unet.variables}
    model.fit(batch(), batch_size=2, epochs=2, verbose=0)
    moved = {
        v.path
        for v in unet.variables
        if not np.array_equal(before[v.path], ops.convert_to_numpy(v))
    }
    assert moved
    assert all("lora_kernel" in path for path in moved)


def test_the_teacher_of_adapters_is_the_unet_without_them():
    def loss(of_its_own):
        unet, rng = small_unet(), np.random.default_rng(0)
        base = without_lora(unet)
        base.trainable = False
        add_lora(unet, rank=2, alpha=2.0)
        for variable in unet.variables:
            if "lora_kernel" in variable.path:
                variable.assign(0.3 * rng.standard_normal(variable.shape))
        # What JAX computes again it might have traced with the adapters.
        rematerialise_blocks(unet)
        model = distillation(unet, trainable="lora", ema=0.0, guidance=(1.0, 3.0))
        assert model.teacher is None
        if of_its_own:
            model.teacher = base
        model.compile(optimizer=keras.optimizers.SGD(0.1))
        history = model.fit(batch(), batch_size=2, epochs=2, verbose=0).history
        return history["loss"]

    np.testing.assert_allclose(loss(True), loss(False), rtol=1e-5)


@pytest.mark.once
def test_without_an_average_the_unet_agrees_with_itself():
    model = distillation(small_unet(), ema=0.0)
    assert model.average is None
    model.compile(optimizer=AdamW(learning_rate=1e-3))
    history = model.fit(batch(), batch_size=2, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.once
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    make_recipe, stop_at, tmp_path
):
    stages = [
        {
            "name": "distil",
            "objective": "distillation",
            "trainable": "all",
            "length": "6 steps",
            "learning_rate": {"peak": 1e-3},
            "distillation": {"guidance": [1.0, 3.0], "grid": 10, "ema": 0.5},
        }
    ]
    recipe = make_recipe(stage=stages, checkpoints={"every": "2 steps"})
    stop_at(3)
    assert train(recipe).steps == 3
    finished = train(recipe, resume="auto")
    whole = train(make_recipe(stage=stages, run={"folder": str(tmp_path / "whole")}))
    tasks = [TextToVideo.from_preset(str(run.preset)) for run in (finished, whole)]
    sampling = (tasks[0].num_steps, tasks[0].scheduler, tasks[0].guidance_scale)
    assert sampling == (4, "lcm", 1.0)
    for ours, theirs in zip(*(values(task.backbone) for task in tasks), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    losses = [
        [line["loss"] for line in read_metrics(r.folder / "metrics.jsonl")]
        for r in (finished, whole)
    ]
    assert losses[0] == losses[1]
    video = tasks[0].generate("a cat", num_steps=2, scheduler="lcm", guidance_scale=1.0)
    assert video.std() > 0


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance": (3.0, 2.0)}, "the lower first.*Received: guidance=\\(3.0, 2.0"),
        ({"grid": 0}, "grid from 1 to 1000. Received: .*grid=0"),
        ({"ema": 1.0}, "ema must be in .* Received: ema=1.0"),
        ({"huber": 0.0}, "huber above 0. Received: .*huber=0.0"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        distillation(small_unet(), **options)
