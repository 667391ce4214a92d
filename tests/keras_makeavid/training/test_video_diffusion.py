import goldens
import gradients
import keras
import numpy as np
import pytest
from keras import ops
from running import runner

from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.training import AdamW, VideoDiffusion
from weights_tools.architectures import variables_of
from weights_tools.layouts import get_layout

TORCH_LAYOUT = get_layout("unet", "makeavid_torch")
GOLDEN = goldens.unet_case("unet_video")


class GoldenStep(VideoDiffusion):
    """Training on what the original drew, in place of draws of its own."""

    def draw(self, latents, context):
        inputs = {k: ops.convert_to_tensor(v) for k, v in GOLDEN.inputs.items()}
        noise = goldens.channels_last(GOLDEN.tensors["noise"])
        return inputs, ops.convert_to_tensor(noise)


def video_diffusion(unet, schedule=None, **options):
    """A training model of latents that are scaled already."""
    schedule = schedule or NoiseSchedule()
    return VideoDiffusion(unet, schedule=schedule, latent_scale=1.0, **options)


@pytest.fixture
def golden_model():
    return GoldenStep(
        GOLDEN.unet(gelu="exact"),
        schedule=NoiseSchedule(),
        latent_scale=1.0,
        trainable="temporal",
    )


@pytest.fixture
def golden_batch():
    latents = goldens.channels_last(GOLDEN.tensors["noise"])
    return {"latents": latents, "context": GOLDEN.inputs["context"]}


def in_torch_layout(unet, variables, values):
    paths = {id(variable): path for path, variable in variables_of(unet).items()}
    tensors = {}
    for variable, value in zip(variables, values, strict=True):
        path = paths[id(variable)]
        tensors[TORCH_LAYOUT.tensor_name(path)] = TORCH_LAYOUT.to_layout(path, value)
    return tensors


def golden_tensors(prefix):
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in GOLDEN.tensors.items()
        if name.startswith(prefix)
    }


def test_loss_and_gradients_are_those_of_the_original(golden_model, golden_batch):
    variables = golden_model.trainable_variables
    assert all("temporal" in variable.path for variable in variables)

    def loss():
        return golden_model.compute_loss(y_pred=golden_model(golden_batch))

    value, found = gradients.value_and_gradients(loss, variables)
    np.testing.assert_allclose(value, GOLDEN.tensors["train.loss"], atol=1e-6)
    norm = np.sqrt(sum(np.sum(np.square(g, dtype="float64")) for g in found))
    np.testing.assert_allclose(norm, GOLDEN.tensors["train.global_grad_norm"], 1e-5)
    found = in_torch_layout(golden_model.unet, variables, found)
    expected = golden_tensors("train.grad.")
    assert expected
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, atol=1e-6, err_msg=name)


def test_one_step_of_fit_gives_the_parameters_of_the_original(
    golden_model, golden_batch
):
    unet = golden_model.unet
    frozen = {v.path: ops.convert_to_numpy(v) for v in unet.non_trainable_variables}
    golden_model.compile(optimizer=AdamW(learning_rate=5e-5))
    history = golden_model.fit(golden_batch, batch_size=2, shuffle=False, verbose=0)
    loss = history.history["loss"][0]
    np.testing.assert_allclose(loss, GOLDEN.tensors["train.loss"], atol=1e-6)
    values = [ops.convert_to_numpy(v) for v in unet.variables]
    found = in_torch_layout(unet, unet.variables, values)
    expected = golden_tensors("train.after_step.")
    assert expected
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)
    for variable in unet.non_trainable_variables:
        value = ops.convert_to_numpy(variable)
        np.testing.assert_array_equal(value, frozen[variable.path])


@pytest.fixture(scope="module")
def unet():
    return UNetPseudo3D(
        block_channels=(8, 16),
        attention_levels=(True, False),
        layers_per_block=1,
        num_heads=2,
        context_dim=8,
        groups=4,
    )


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "latents": rng.standard_normal((2, 5, 4, 4, 4), "float32").astype("float16"),
        "context": rng.standard_normal((2, 3, 8), "float32").astype("float16"),
    }


def draw(model, batch):
    inputs, target = model.draw(batch["latents"], batch["context"])
    inputs = {key: ops.convert_to_numpy(value) for key, value in inputs.items()}
    return inputs, ops.convert_to_numpy(target)


def test_the_hint_is_the_first_frame_and_the_mask_is_zero(unet, batch):
    inputs, _ = draw(video_diffusion(unet, seed=0), batch)
    latents = batch["latents"].astype("float32")
    assert inputs["sample"].shape == (2, 5, 4, 4, 9)
    np.testing.assert_array_equal(inputs["sample"][..., 4], 0.0)
    hint = np.broadcast_to(latents[:, :1], latents.shape)
    np.testing.assert_array_equal(inputs["sample"][..., 5:], hint)


def test_every_nth_frame_is_repeated(unet, batch):
    given = {"repeated every 2": 1}
    inputs, _ = draw(video_diffusion(unet, given_frames=given, seed=0), batch)
    latents = batch["latents"].astype("float32")
    hint = latents[:, [0, 0, 2, 2, 4]]
    np.testing.assert_array_equal(inputs["sample"][..., 5:], hint)


def test_latents_are_scaled_in_single_precision(unet, batch):
    schedule = NoiseSchedule()
    model = VideoDiffusion(unet, schedule=schedule, latent_scale=0.3, seed=0)
    inputs, noise = draw(model, batch)
    latents = batch["latents"].astype("float32") * np.float32(0.3)
    np.testing.assert_allclose(inputs["sample"][:, 0, ..., 5:], latents[:, 0], 1e-6)
    noisy = schedule.add_noise(latents, noise, inputs["timesteps"])
    noisy = ops.convert_to_numpy(noisy)
    np.testing.assert_allclose(inputs["sample"][..., :4], noisy, atol=1e-6)


def test_schedule_and_scale_are_never_guessed(unet):
    with pytest.raises(TypeError, match="schedule"):
        VideoDiffusion(unet, latent_scale=0.18215)
    with pytest.raises(TypeError, match="latent_scale"):
        VideoDiffusion(unet, schedule=NoiseSchedule())
    with pytest.raises(ValueError, match="schedule must be .* Received: None"):
        VideoDiffusion(unet, schedule=None, latent_scale=0.18215)
    for scale in (None, 0, -1.0, float("nan"), "0.18215"):
        with pytest.raises(ValueError, match="latent_scale must be a positive number"):
            VideoDiffusion(unet, schedule=NoiseSchedule(), latent_scale=scale)


def test_the_noisy_latent_is_that_of_the_schedule(unet, batch):
    schedule = NoiseSchedule()
    inputs, noise = draw(video_diffusion(unet, schedule, seed=0), batch)
    noisy = schedule.add_noise(batch["latents"], noise, inputs["timesteps"])
    np.testing.assert_allclose(
        inputs["sample"][..., :4], ops.convert_to_numpy(noisy), atol=1e-6
    )


def test_each_sample_and_each_step_draws_its_own(unet, batch):
    model = video_diffusion(unet, seed=0)
    first, second = draw(model, batch)[1], draw(model, batch)[1]
    assert np.abs(first[0] - first[1]).min() > 0
    assert np.abs(first - second).max() > 1
    timesteps = np.concatenate([draw(model, batch)[0]["timesteps"] for _ in range(40)])
    assert 0 <= timesteps.min() < 100
    assert 900 < timesteps.max() < 1000
    assert len(set(timesteps.tolist())) > 60


def test_the_same_seed_draws_the_same(unet, batch):
    one = draw(video_diffusion(unet, seed=3), batch)
    two = draw(video_diffusion(unet, seed=3), batch)
    np.testing.assert_array_equal(one[1], two[1])
    np.testing.assert_array_equal(one[0]["timesteps"], two[0]["timesteps"])


@pytest.mark.slow
def test_fit_on_all_parameters_lowers_the_loss(batch):
    unet = UNetPseudo3D(
        block_channels=(8, 16),
        attention_levels=(True, False),
        layers_per_block=1,
        num_heads=2,
        context_dim=8,
        groups=4,
    )
    model = video_diffusion(unet, trainable="all", seed=0)
    model.compile(optimizer=AdamW(learning_rate=1e-2))
    repeated = {
        key: np.tile(x, (32,) + (1,) * (x.ndim - 1)) for key, x in batch.items()
    }
    losses = model.fit(repeated, batch_size=8, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]


def test_v_prediction_trains_on_the_velocity(unet, batch):
    schedule = NoiseSchedule(prediction_type="v_prediction")
    inputs, target = draw(video_diffusion(unet, schedule, seed=0), batch)
    _, noise = draw(video_diffusion(unet, seed=0), batch)
    expected = schedule.target(batch["latents"], noise, inputs["timesteps"])
    np.testing.assert_allclose(target, ops.convert_to_numpy(expected), atol=1e-6)


EMPTY = np.full((3, 8), 7.0, "float32")


def test_dropped_captions_are_the_empty_prompt_s_in_their_share_of_samples(unet):
    model = video_diffusion(unet, caption_dropout=0.25, empty_context=EMPTY, seed=0)
    latents = np.zeros((400, 1, 2, 2, 4), "float16")
    context = np.random.default_rng(0).standard_normal((400, 3, 8)).astype("float16")
    drawn, _ = draw(model, {"latents": latents, "context": context})
    dropped = (drawn["context"] == 7.0).all((1, 2))
    assert 0.18 < dropped.mean() < 0.32
    np.testing.assert_array_equal(drawn["context"][~dropped], context[~dropped])
    again, _ = draw(model, {"latents": latents, "context": context})
    assert ((again["context"] == 7.0).all((1, 2)) != dropped).any()


def test_caption_dropout_changes_neither_noise_nor_timesteps(unet, batch):
    dropping = video_diffusion(unet, caption_dropout=0.5, empty_context=EMPTY, seed=3)
    one, two = draw(dropping, batch), draw(video_diffusion(unet, seed=3), batch)
    np.testing.assert_array_equal(one[0]["sample"], two[0]["sample"])
    np.testing.assert_array_equal(one[0]["timesteps"], two[0]["timesteps"])


@pytest.mark.parametrize(
    ("dropout", "message"),
    [
        (0.1, "caption_dropout=0.1 needs empty_context"),
        (2.0, "caption_dropout must be from 0 to 1. Received: 2.0"),
    ],
)
def test_caption_dropout_needs_a_share_and_the_empty_prompt(unet, dropout, message):
    with pytest.raises(ValueError, match=message):
        video_diffusion(unet, caption_dropout=dropout)


def test_min_snr_weighs_each_sample_s_error_by_its_timestep(unet, batch):
    schedule = NoiseSchedule()
    model = video_diffusion(unet, schedule, min_snr_gamma=5.0, seed=0)
    outputs = runner(model)(batch)
    inputs, _ = draw(video_diffusion(unet, schedule, seed=0), batch)
    ratio = ops.convert_to_numpy(schedule.signal_to_noise(inputs["timesteps"]))
    error = outputs["prediction"] - outputs["target"]
    expected = np.mean(np.minimum(5.0 / ratio, 1.0) * (error**2).mean((1, 2, 3, 4)))
    outputs = {name: ops.convert_to_tensor(value) for name, value in outputs.items()}
    loss = ops.convert_to_numpy(model.compute_loss(y_pred=outputs))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_an_infinite_loss_is_no_loss_whose_gradients_are_finite(unet):
    model = video_diffusion(unet, seed=0)
    prediction = ops.full((1, 1, 1, 1, 4), 1e20)
    outputs = {"prediction": prediction, "target": ops.zeros_like(prediction)}
    assert np.isnan(ops.convert_to_numpy(model.compute_loss(y_pred=outputs)))


def test_fit_reports_each_step(batch):
    unet = UNetPseudo3D(
        block_channels=(8,),
        attention_levels=(False,),
        layers_per_block=1,
        num_heads=2,
        context_dim=8,
        groups=4,
    )
    model = video_diffusion(unet, seed=0)
    model.compile(optimizer=AdamW(learning_rate=1e-2))

    class Kept(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.logs = []

        def on_train_batch_end(self, batch, logs=None):
            self.logs.append(logs)

    kept = Kept()
    bad = {**batch, "latents": batch["latents"] * [[[[[1]]]], [[[[np.nan]]]]]}
    batches = {k: np.concatenate([batch[k], bad[k]]) for k in batch}
    model.fit(batches, batch_size=1, shuffle=False, verbose=0, callbacks=[kept])
    losses = [log["step_loss"] for log in kept.logs]
    means = [log["loss"] for log in kept.logs]
    np.testing.assert_allclose(means[2], np.mean(losses[:3]), rtol=1e-5)
    assert [log["skipped_total"] for log in kept.logs] == [0, 0, 0, 1]
    assert np.isnan([losses[3], kept.logs[3]["grad_norm"]]).all()
    assert all(log["grad_norm"] > 0 for log in kept.logs[:3])
    assert all(np.isclose(log["lr"], 1e-2) for log in kept.logs)
    # The fourth step changed nothing.
    assert np.isfinite([ops.convert_to_numpy(v).sum() for v in unet.weights]).all()
