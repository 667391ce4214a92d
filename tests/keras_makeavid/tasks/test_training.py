"""`TextToVideo` trains by `compile` and `fit`, as any Keras model."""

import keras
import numpy as np
import pytest
from keras import ops
from run_datasets import write_dataset

from keras_makeavid import TextToVideo
from keras_makeavid.data import LatentDataset
from keras_makeavid.moving_shapes import MotionClips, encode_motions
from keras_makeavid.presets import DEFAULT_PRESET
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.training import AdamW, VideoDiffusion, add_lora


@pytest.fixture
def tiny(preset):
    """A task of its own for each test."""
    return TextToVideo.from_preset(str(preset))


@pytest.fixture(scope="module")
def batches():
    """Four samples of three frames."""
    random = np.random.default_rng(0)
    return {
        "latents": random.standard_normal((4, 3, 2, 2, 4), "float32").astype("float16"),
        "context": random.standard_normal((4, 12, 16), "float32").astype("float16"),
    }


def values(task, part="backbone"):
    variables = getattr(task, part).variables
    return {v.path: ops.convert_to_numpy(v).copy() for v in variables}


def moved(task, before):
    after = values(task)
    return {path for path, value in before.items() if (after[path] != value).any()}


@pytest.mark.once
def test_fit_of_the_model_in_the_box_begins_at_its_own_loss(tmp_path):
    task = TextToVideo.from_preset(DEFAULT_PRESET)
    tokenize = task.preprocessor.tokenize
    clips = MotionClips(seed=1)
    encode_motions(clips, 16, tmp_path, task.vae, task.text_encoder, tokenize)
    # With few frames to make, the loss depends little on the noise that is drawn.
    task.compile(given_frames={"every 4": 1}, seed=0)
    dataset = LatentDataset(
        tmp_path, num_frames=task.num_frames, batch_size=8, samples_per_epoch=16
    )
    # 0.030 to 0.036; with the scale or the schedule of Stable Diffusion 0.25 and more.
    assert task.fit(dataset, verbose=0).history["loss"][0] < 0.06


def test_fit_is_that_of_video_diffusion_with_what_the_task_knows(tiny, batches):
    parts = tiny.backbone, tiny.preprocessor, tiny.text_encoder, tiny.vae
    schedule = NoiseSchedule(prediction_type="v_prediction", zero_terminal_snr=True)
    task = TextToVideo(*parts, schedule=schedule)
    start = task.backbone.get_weights()
    task.compile(seed=3)
    losses = task.fit(batches, batch_size=2, epochs=2, shuffle=False, verbose=0)
    trained = task.backbone.get_weights()

    task.backbone.set_weights(start)
    model = VideoDiffusion(
        task.backbone, schedule=schedule, latent_scale=task.vae.scaling_factor, seed=3
    )
    model.compile(optimizer=AdamW())
    peer = model.fit(batches, batch_size=2, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(losses.history["loss"], peer.history["loss"], rtol=1e-5)
    for one, other in zip(trained, task.backbone.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("trainable", ["temporal", "all", "lora", "conv_out"])
def test_what_trains_is_what_was_asked_for(tiny, batches, trainable):
    vae, text = values(tiny, "vae"), values(tiny, "text_encoder")
    tiny.compile(optimizer=AdamW(1e-2), trainable=trainable, seed=0)
    before = values(tiny)
    history = tiny.fit(batches, batch_size=2, verbose=0)
    assert list(history.history) == ["loss"]
    changed = moved(tiny, before)
    wanted = {"all": "", "lora": "lora_kernel"}.get(trainable, trainable)
    assert changed and all(wanted in path for path in changed)
    for part, old in (("vae", vae), ("text_encoder", text)):
        for path, value in values(tiny, part).items():
            np.testing.assert_array_equal(value, old[path])


@pytest.mark.parametrize(
    "trainable", ["all", pytest.param("lora", marks=pytest.mark.once)]
)
def test_what_was_trained_generates_and_is_saved(tiny, batches, trainable, tmp_path):
    def generate(task):
        options = {"num_frames": 2, "num_steps": 2, "seed": 0}
        return task.generate("a cat", guidance_scale=5.0, **options)

    before = generate(tiny)
    tiny.compile(optimizer=AdamW(1e-1), trainable=trainable, seed=0)
    tiny.fit(batches, batch_size=2, epochs=2, verbose=0)
    trained = generate(tiny)
    assert np.abs(trained.astype(int) - before).max() > 1
    tiny.save_to_preset(tmp_path / "trained")
    tiny.save(tmp_path / "task.keras")
    loaded = [
        TextToVideo.from_preset(str(tmp_path / "trained")),
        keras.saving.load_model(tmp_path / "task.keras"),
    ]
    for again in loaded:
        assert np.abs(generate(again).astype(int) - trained).max() <= 1
        assert not any("lora" in v.path for v in again.variables)
    assert all(v.trainable for v in loaded[0].vae.trainable_variables)
    assert loaded[0].vae.trainable and not loaded[0].compiled
    # A file that had adapters has merged weights, and trains when compiled again.
    assert loaded[1].compiled == (trainable == "all")
    loaded[1].compile(trainable="lora")
    assert np.isfinite(loaded[1].evaluate(batches, verbose=0))


def test_a_saved_task_trains_on_as_it_was_compiled(tiny, batches, tmp_path):
    tiny.compile(trainable="temporal", caption_dropout=0.5, min_snr_gamma=5.0, seed=0)
    tiny.fit(batches, batch_size=2, verbose=0)
    tiny.save(tmp_path / "task.keras")
    again = keras.saving.load_model(tmp_path / "task.keras")
    assert int(ops.convert_to_numpy(again.optimizer.iterations)) == 2
    for one, other in zip(
        tiny.optimizer.variables, again.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (one, other)))
    again.fit(batches, batch_size=2, verbose=0)
    empty = ops.convert_to_numpy(tiny.encode_prompts([""])[0])
    held = ops.convert_to_numpy(again._training.objective.empty_context)
    np.testing.assert_allclose(held, empty, atol=1e-5)


class Looks(keras.callbacks.Callback):
    """Uses the task between steps."""

    def __init__(self):
        super().__init__()
        self.videos = []

    def on_train_batch_end(self, batch, logs=None):
        assert isinstance(self.model, TextToVideo) and "loss" in logs
        options = {"num_frames": 2, "num_steps": 1, "guidance_scale": 1.0, "seed": 0}
        self.videos.append(self.model.generate("a", **options))


def test_callbacks_of_keras_work(tiny, batches, tmp_path):
    looks = Looks()
    callbacks = [
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", monitor="loss", save_best_only=True
        ),
        keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=1, min_delta=100.0, restore_best_weights=True
        ),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.LearningRateScheduler(lambda epoch: 1e-1 / 10**epoch),
        looks,
    ]
    tiny.compile(optimizer=AdamW(1e-1), seed=0)
    history = tiny.fit(
        batches,
        validation_data=batches,
        batch_size=2,
        epochs=5,
        callbacks=callbacks,
        verbose=0,
    )
    assert len(history.history["val_loss"]) == 2
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    rate = float(ops.convert_to_numpy(tiny.optimizer.learning_rate))
    assert np.isclose(rate, 1e-2)
    assert len(looks.videos) == 4
    assert np.abs(looks.videos[0].astype(int) - looks.videos[-1]).max() > 0
    assert keras.saving.load_model(tmp_path / "best.keras").compiled


def test_compile_alone_is_the_package_s_adamw_on_temporal_parts(tiny):
    tiny.compile()
    assert isinstance(tiny.optimizer, AdamW)
    assert np.isclose(float(ops.convert_to_numpy(tiny.optimizer.learning_rate)), 5e-5)
    assert tiny.trainable_variables
    assert all("temporal" in v.path for v in tiny.trainable_variables)
    lines = []
    tiny.summary(print_fn=lines.append)
    assert "Trainable params" in "\n".join(lines)


def test_adapters_of_one_s_own_settings_are_taken(tiny, batches):
    add_lora(tiny.backbone, rank=2, alpha=4.0)
    count = len(tiny.backbone.variables)
    tiny.compile(trainable="lora")
    assert len(tiny.backbone.variables) == count
    tiny.fit(batches, batch_size=4, verbose=0)


def test_fit_before_compile_is_keras_s_error(tiny, batches):
    with pytest.raises(ValueError, match="call `compile\\(\\)`"):
        tiny.fit(batches)


def test_a_dataset_that_does_not_tell_is_taken_for_stable_diffusion_s(tiny, tmp_path):
    folder = write_dataset(tmp_path / "dataset", clips=2)
    tiny.compile()
    with pytest.warns(UserWarning, match="Stable Diffusion 1.5 are assumed"):
        tiny.fit(LatentDataset(folder, num_frames=3), verbose=0)
