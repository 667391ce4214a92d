import keras
import numpy as np
import pytest
import torch
from peers import image_output, our_output

import weights_tools
from keras_makeavid import TextToVideo


@pytest.fixture(scope="module")
def inputs():
    random = np.random.default_rng(0)
    return {
        # At 8 x 8 a group of the deepest norms has two values: where these are nearly
        # the same, any rounding grows up to 300 times, diffusers' own too.
        "sample": random.standard_normal((2, 16, 16, 9), "float32"),
        "timesteps": np.array([7, 981]),
        "context": random.standard_normal((2, 5, 64), "float32"),
    }


def still(sample, frames=3):
    return np.repeat(sample[:, None], frames, axis=1)


def test_each_frame_of_a_still_video_is_the_image_models_output(
    pipeline, image_unet, inputs, tmp_path
):
    weights_tools.inflate(pipeline / "unet", tmp_path / "preset")
    unet = weights_tools.load_model(tmp_path / "preset")
    expected = image_output(image_unet, inputs)
    video = our_output(unet, {**inputs, "sample": still(inputs["sample"])})
    for frame in range(video.shape[1]):
        np.testing.assert_allclose(video[:, frame], expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(our_output(unet, inputs), expected, rtol=0, atol=1e-5)


@pytest.mark.once
def test_a_model_of_latents_alone_ignores_mask_and_hint(inputs, tmp_path):
    peer = make_image_unet(4)
    peer.save_pretrained(tmp_path / "image")
    weights_tools.inflate(tmp_path / "image", tmp_path / "preset")
    unet = weights_tools.load_model(tmp_path / "preset")
    expected = image_output(peer, {**inputs, "sample": inputs["sample"][..., :4]})
    ours = our_output(unet, inputs)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


def make_image_unet(in_channels):
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        in_channels=in_channels,
        cross_attention_dim=64,
        block_out_channels=(32, 32, 64, 64),
        attention_head_dim=8,
    ).eval()


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("source", ["folder", "ckpt"])
def test_a_pipeline_becomes_a_task_that_generates(pipeline, tmp_path, source):
    path = as_ckpt(pipeline, tmp_path) if source == "ckpt" else pipeline
    weights_tools.inflate(path, tmp_path / "preset", base=pipeline)
    task = TextToVideo.from_preset(str(tmp_path / "preset"))
    videos = task.generate(
        "a cat", num_frames=2, height=64, width=64, num_steps=1, seed=0
    )
    assert videos.shape == (1, 2, 64, 64, 3)
    assert task.schedule.beta_end == 0.012


def as_ckpt(pipeline, folder):
    """As CompVis saves it: a pickle, with a callback of the trainer's beside."""
    from safetensors.torch import load_file

    weights_tools.convert(pipeline, folder / "ldm.safetensors", "ldm")
    state = load_file(folder / "ldm.safetensors")
    torch.save({"state_dict": state, "epoch": 3, "global_step": 7}, folder / "sd.ckpt")
    return folder / "sd.ckpt"


@pytest.mark.once
@pytest.mark.slow
def test_the_preset_is_the_one_that_the_task_would_save(pipeline, tmp_path):
    weights_tools.inflate(pipeline, tmp_path / "written")
    task = TextToVideo.from_preset(str(tmp_path / "written"))
    task.save_to_preset(tmp_path / "saved")
    written, saved = (
        {p.relative_to(tmp_path / name) for p in (tmp_path / name).rglob("*")}
        for name in ("written", "saved")
    )
    assert written == saved
    for name in ("task.json", "config.json", "preprocessor.json"):
        texts = [(tmp_path / f / name).read_text() for f in ("written", "saved")]
        assert texts[0] == texts[1]
    again = TextToVideo.from_preset(str(tmp_path / "saved"))
    for a, b in zip(task.weights, again.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b)
        )


@pytest.mark.once
def test_a_video_model_is_not_inflated_again(video_unet, tmp_path):
    with pytest.raises(ValueError, match="video model already"):
        weights_tools.inflate(video_unet, tmp_path / "preset")


@pytest.mark.once
def test_inflating_auto_inflates_image_models_and_converts_video_models(
    pipeline, video_unet, tmp_path
):
    for name, source in (("image", pipeline), ("video", video_unet)):
        weights_tools.convert(source, tmp_path / name, inflating="auto")
        assert weights_tools.inspect(tmp_path / name)["unet"].video


@pytest.mark.once
def test_what_inflating_may_be_is_said(pipeline, tmp_path):
    with pytest.raises(ValueError, match="True, False, 'auto'.*Received: 'yes'"):
        weights_tools.convert(pipeline, tmp_path / "preset", inflating="yes")


@pytest.mark.once
def test_a_model_of_other_inputs_is_refused(tmp_path):
    make_image_unet(8).save_pretrained(tmp_path / "depth")
    with pytest.raises(ValueError, match="4 channels .* or 9 .* Received: 8"):
        weights_tools.inflate(tmp_path / "depth", tmp_path / "preset")


@pytest.mark.once
def test_what_is_no_unet_is_refused(pipeline, tmp_path):
    with pytest.raises(ValueError, match=r"no unet .* Received: \['vae'\]"):
        weights_tools.inflate(pipeline / "vae", tmp_path / "preset")


@pytest.mark.once
def test_temporal_parts_start_the_same_each_time(pipeline, tmp_path):
    for name in ("a", "b"):
        weights_tools.inflate(pipeline / "unet", tmp_path / name)
    files = [(tmp_path / n / "model.weights.h5").read_bytes() for n in ("a", "b")]
    assert files[0] == files[1]


@pytest.mark.once
def test_a_preset_without_temporal_parts_gets_them(image_unet, inputs, tmp_path):
    image_unet.save_pretrained(tmp_path / "image")
    image = weights_tools.load_model(tmp_path / "image", overrides={"temporal": False})
    assert not any("temporal" in v.path for v in image.variables)
    image.save_to_preset(tmp_path / "preset")
    weights_tools.inflate(tmp_path / "preset", tmp_path / "video")
    unet = weights_tools.load_model(tmp_path / "video")
    video = our_output(unet, {**inputs, "sample": still(inputs["sample"])})
    expected = image_output(image_unet, inputs)
    np.testing.assert_allclose(video[:, 1], expected, rtol=0, atol=1e-5)
