"""AnimateDiff as a task: its trajectory is that of diffusers, and it trains."""

import diffusers
import keras
import numpy as np
import pytest
import torch
from animatediff import (
    DIFFUSERS_NORMS,
    make_parts,
    motion_adapter,
    motion_unet,
    save_stable_diffusion,
)
from keras import ops
from transformers import CLIPTokenizer

import weights_tools
from keras_makeavid import TextToVideo
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.sampling import Conditions, DenoisingLoop
from keras_makeavid.schedulers import get_scheduler
from keras_makeavid.text import openai_clip_vocabulary
from keras_makeavid.text.vocabulary import Vocabulary
from keras_makeavid.training import set_trainable

PROMPTS = {"prompt": "a cat in the rain", "negative_prompt": "blurry"}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """diffusers' `AnimateDiffPipeline` in small, and its folder."""
    folder = tmp_path_factory.mktemp("animatediff")
    Vocabulary(*openai_clip_vocabulary()).save(folder)
    vae, text_encoder = make_parts()
    pipeline = diffusers.AnimateDiffPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=CLIPTokenizer.from_pretrained(folder, model_max_length=77),
        unet=motion_unet("v2"),
        motion_adapter=None,
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="linear",
            steps_offset=1,
            clip_sample=False,
            set_alpha_to_one=False,
        ),
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder / "pipeline")
    return pipeline, folder / "pipeline"


def test_a_trajectory_is_that_of_diffusers_pipeline(pipeline, tmp_path):
    pipeline, folder = pipeline
    weights_tools.convert(folder, tmp_path / "preset", overrides=DIFFUSERS_NORMS)
    task = TextToVideo.from_preset(str(tmp_path / "preset"))
    random = np.random.default_rng(0)
    noise = random.standard_normal((1, 6, 8, 12, 4), "float32")
    # In float64: the error is then ours alone.
    pipeline.to(torch.float64)
    theirs = pipeline(
        **PROMPTS,
        latents=torch.from_numpy(np.moveaxis(noise, -1, 1).copy()).double(),
        num_frames=6,
        height=64,
        width=96,
        num_inference_steps=5,
        guidance_scale=7.5,
        output_type="latent",
    ).frames
    context, negative = (task.encode_prompts([text]) for text in PROMPTS.values())
    assert task.guidance_scale == 7.5
    unused = np.zeros((1, 1, 1, 1, 1), "float32")
    ours = DenoisingLoop(task.backbone)(
        noise,
        Conditions(context, negative, task.guidance_scale, unused, unused),
        get_scheduler("ddim", task.schedule).table(5),
    )
    theirs = np.moveaxis(theirs.float().numpy(), 1, -1)
    np.testing.assert_allclose(ops.convert_to_numpy(ours), theirs, rtol=0, atol=1e-4)


def test_a_video_is_changed_as_by_diffusers_pipeline(pipeline, tmp_path):
    pipeline, folder = pipeline
    weights_tools.convert(folder, tmp_path / "preset", overrides=DIFFUSERS_NORMS)
    task = TextToVideo.from_preset(str(tmp_path / "preset"))
    clip = np.random.default_rng(1).standard_normal((1, 6, 8, 12, 4), "float32")
    channels_first = torch.from_numpy(np.moveaxis(clip, -1, 1).copy()).double()
    other = diffusers.AnimateDiffVideoToVideoPipeline(**pipeline.components)
    other.set_progress_bar_config(disable=True)
    other.to(torch.float64)
    theirs = other(
        **PROMPTS,
        latents=channels_first,
        # Three of five steps.
        num_inference_steps=3,
        strength=0.6,
        enforce_inference_steps=True,
        generator=torch.Generator().manual_seed(0),
        height=64,
        width=96,
        guidance_scale=7.5,
        output_type="latent",
    ).frames
    shape = channels_first.shape
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    noise = np.moveaxis(noise.float().numpy(), 1, -1)
    context, negative = (task.encode_prompts([text]) for text in PROMPTS.values())
    unused = np.zeros((1, 1, 1, 1, 1), "float32")
    ours = DenoisingLoop(task.backbone)(
        noise,
        Conditions(context, negative, 7.5, unused, unused),
        get_scheduler("ddim", task.schedule).table(5, strength=0.6),
        latents=clip,
    )
    theirs = np.moveaxis(theirs.float().numpy(), 1, -1)
    np.testing.assert_allclose(ops.convert_to_numpy(ours), theirs, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory):
    return save_stable_diffusion(tmp_path_factory.mktemp("sd") / "sd")


@pytest.fixture(scope="module")
def preset(stable_diffusion, tmp_path_factory):
    """Stable Diffusion of 4 channels with the modules of v1."""
    folder = tmp_path_factory.mktemp("presets")
    motion_adapter("v1").save_pretrained(folder / "motion")
    weights_tools.inflate(stable_diffusion, folder / "preset", motion=folder / "motion")
    return folder / "preset"


@pytest.fixture
def task(preset):
    return TextToVideo.from_preset(str(preset))


def test_a_model_of_latents_alone_makes_no_first_frame(task):
    steps = []
    videos = task.generate(
        ["a cat", "a dog"],
        num_frames=3,
        height=64,
        width=96,
        num_steps=2,
        seed=0,
        progress=lambda *step: steps.append(step),
    )
    assert videos.shape == (2, 3, 64, 96, 3)
    assert steps == [(1, 2), (2, 2)]
    assert (task.height, task.width, task.num_frames) == (128, 128, 16)


def test_what_such_a_model_does_not_take_is_said(task):
    picture = np.zeros((64, 64, 3), "uint8")
    with pytest.raises(ValueError, match="latents alone.* Received: .*in_channels=4"):
        task.generate("a cat", hint_image=picture)
    with pytest.raises(ValueError, match="positions of 24 frames.* Received: 25"):
        task.generate("a cat", num_frames=25)


@pytest.mark.once
def test_the_inpainting_model_takes_hint_and_mask(tmp_path):
    source = save_stable_diffusion(tmp_path / "sd", in_channels=9)
    motion_adapter("v2").save_pretrained(tmp_path / "motion")
    weights_tools.inflate(source, tmp_path / "preset", motion=tmp_path / "motion")
    task = TextToVideo.from_preset(str(tmp_path / "preset"))
    assert task.backbone.in_channels == 9
    random = np.random.default_rng(0)
    hints = random.integers(0, 256, (2, 64, 64, 3), dtype="uint8")

    def generate(**options):
        options = {"num_frames": 2, "height": 64, "width": 64, "seed": 0, **options}
        return task.generate("a cat", num_steps=2, **options).astype(int)

    videos = [generate(hint_image=hint) for hint in hints]
    videos += [generate(hint_image=hints[0], mask_image=np.eye(64)), generate()]
    for i, video in enumerate(videos):
        for other in videos[:i]:
            assert np.abs(video - other).max() > 0


@pytest.mark.once
def test_from_preset_puts_modules_into_a_checkpoint(
    stable_diffusion, task, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    motion = tmp_path / "motion"
    motion_adapter("v1").save_pretrained(motion)
    made = [TextToVideo.from_preset(stable_diffusion, motion=motion) for _ in range(2)]
    for each in made:
        assert each.schedule == task.schedule
        for one, other in zip(each.weights, task.weights, strict=True):
            np.testing.assert_array_equal(*map(ops.convert_to_numpy, (one, other)))
    cache = tmp_path / "home" / "keras_makeavid" / "presets"
    assert len(list(cache.iterdir())) == 1
    new = TextToVideo.from_preset(stable_diffusion, motion="v2")
    assert new.backbone.motion_mid_block
    assert len(list(cache.iterdir())) == 2


def batches(width):
    random = np.random.default_rng(0)
    # Something that moves: the noise of one frame, shifted from frame to frame.
    frame = random.standard_normal((2, 8, 8, 4))
    frames = [np.roll(frame, i, axis=2) for i in range(3)]
    context = random.standard_normal((2, 8, width))
    return {
        "latents": np.stack(frames, axis=1).astype("float16"),
        "context": context.astype("float16"),
    }


def values(task):
    return {v.path: ops.convert_to_numpy(v).copy() for v in task.backbone.variables}


@pytest.mark.parametrize(
    "trainable", ["temporal", pytest.param("lora", marks=pytest.mark.once)]
)
def test_the_modules_train_and_the_loss_falls(preset, trainable, tmp_path):
    task = TextToVideo.from_preset(str(preset))
    before = values(task)
    task.compile(keras.optimizers.Adam(6e-3), trainable=trainable, seed=0)
    data = batches(task.backbone.context_dim)
    history = task.fit(data, batch_size=2, epochs=20, verbose=0).history["loss"]
    assert np.mean(history[-10:]) < 0.9 * np.mean(history[:10])
    if trainable == "lora":
        return
    moved = {
        path for path, value in values(task).items() if (before[path] != value).any()
    }
    assert moved and all("temporal_modules" in path for path in moved)
    assert not any("positions" in path for path in moved)
    task.save_to_preset(tmp_path / "trained")
    again = TextToVideo.from_preset(str(tmp_path / "trained"))
    for path, value in values(again).items():
        np.testing.assert_array_equal(value, values(task)[path])


@pytest.mark.once
def test_temporal_means_the_modules_at_full_size():
    from keras_makeavid.models.loading import without_weights

    unet = without_weights(
        lambda: UNetPseudo3D(
            in_channels=4, temporal="motion_modules", motion_mid_block=True
        )
    )
    assert set_trainable(unet, "temporal") == pytest.approx(453e6, rel=2e-3)
