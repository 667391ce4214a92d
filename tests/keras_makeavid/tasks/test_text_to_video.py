import json
import logging
import os
import re
import subprocess
import sys
import threading
import time

import keras
import keras_hub
import numpy as np
import pytest

from keras_makeavid import TextToVideo
from keras_makeavid.freeinit import mixed_noise
from keras_makeavid.models import AutoencoderKL, AutoencoderTiny
from keras_makeavid.sampling import DenoisingLoop
from keras_makeavid.schedulers import DDIM, NoiseSchedule
from keras_makeavid.tasks import text_to_video
from keras_makeavid.text import TextEncoder, TextToVideoPreprocessor
from keras_makeavid.video import cover_crop

OTHER_BACKEND = "jax" if keras.config.backend() == "torch" else "torch"


def generate(task, prompts="a cat", **options):
    """Four frames in two steps, from seed 0."""
    settings = {"num_frames": 4, "num_steps": 2, "guidance_scale": 5.0, "seed": 0}
    return task.generate(prompts, **{**settings, **options})


def ignore(step, total):
    """Without a hint all tests report, so that one program serves them."""


def difference(frames, others):
    assert frames.shape == others.shape
    return np.abs(frames.astype(int) - others.astype(int)).max()


def variant(task, **changes):
    """A task with other parts, and with the compiled programs of the same UNet."""
    names = ("backbone", "preprocessor", "text_encoder", "vae", "height", "width")
    other = TextToVideo(**{**{name: getattr(task, name) for name in names}, **changes})
    other._encode_text, other._video_loop = task._encode_text, task._video_loop
    return other


@pytest.fixture(scope="module")
def video(task, hint):
    """What the task makes of one prompt and the hint."""
    return generate(task, hint_image=hint)


@pytest.fixture(scope="module")
def video_without_hint(task):
    return generate(task, progress=ignore)


# What comes out.


def test_one_string_gives_one_video_of_bytes(video):
    assert video.dtype == "uint8"
    assert video.shape == (1, 4, 128, 128, 3)
    assert video.std() > 10


# The last one with a first frame of its own too.
@pytest.mark.parametrize(
    ("scheduler", "has_hint"), [("dpm++2m", True), ("lcm", True), ("lcm", False)]
)
def test_a_sample_depends_on_its_own_seed_only_not_on_its_batch(
    task, hint, scheduler, has_hint
):
    settings = {"hint_image": hint if has_hint else None, "scheduler": scheduler}
    together = generate(task, ["a cat", "a dog"], **settings, seed=7)
    assert together.shape == (2, 4, 128, 128, 3)
    for i, prompt in enumerate(["a cat", "a dog"]):
        alone = generate(task, prompt, **settings, seed=7 + i)
        assert difference(together[i : i + 1], alone) <= 1
    assert difference(together[0], together[1]) > 10


def test_the_same_seed_gives_the_same_video_and_another_one_another(task, hint, video):
    np.testing.assert_array_equal(generate(task, hint_image=hint, seed=[0]), video)
    assert difference(generate(task, hint_image=hint, seed=1), video) > 10


def test_no_seed_gives_another_video_every_time(task, hint):
    videos = [generate(task, hint_image=hint, seed=None) for _ in range(2)]
    assert difference(*videos) > 10


def test_prompt_and_negative_prompt_matter(task, hint, video):
    assert difference(generate(task, "a dog", hint_image=hint), video) > 10
    negative = generate(task, hint_image=hint, negative_prompts="a dog")
    assert difference(negative, video) > 10


def test_guidance_against_the_same_prompt_is_no_guidance(task, hint):
    opposed = generate(task, hint_image=hint, negative_prompts="a cat")
    unguided = generate(task, hint_image=hint, guidance_scale=1.0)
    assert difference(opposed, unguided) <= 1


def test_features_of_earlier_steps_make_a_video_that_is_a_little_other(task, hint):
    plain = generate(task, hint_image=hint, num_steps=4)
    cached = generate(task, hint_image=hint, num_steps=4, cache_interval=2)
    again = generate(task, hint_image=hint, num_steps=4, cache_interval=2)
    np.testing.assert_array_equal(cached, again)
    assert difference(cached, plain) > 0
    # The first frame too, and with guidance at some steps alone.
    frames = generate(task, num_steps=4, cache_interval=2, guidance_interval=(0.5, 1))
    assert difference(frames, generate(task, num_steps=4)) > 0


@pytest.mark.once
def test_freeu_makes_another_video_and_works_with_all_else(task, hint):
    plain = generate(task, hint_image=hint, num_steps=2)
    options = {"freeu": (1.5, 1.6, 0.9, 0.2), "num_steps": 2}
    free = generate(task, hint_image=hint, **options)
    assert difference(free, plain) > 1
    same = generate(task, hint_image=hint, num_steps=2, freeu=(1, 1, 1, 1))
    np.testing.assert_array_equal(same, plain)
    # A first frame is made with it too.
    for more in ({"cache_interval": 2}, {"window": 2}):
        assert difference(generate(task, **options, **more), plain) > 0


def test_a_video_made_again_starts_from_its_own_slow_changes(task, hint, monkeypatch):
    done = []
    options = {"hint_image": hint, "num_steps": 2}
    plain = generate(task, **options)
    again = generate(
        task, free_init=3, progress=lambda *steps: done.append(steps), **options
    )
    assert done == [(i, 6) for i in range(1, 7)]
    assert difference(again, plain) > 1
    latents = generate(task, output="latents", **options)
    drawn = text_to_video._noise
    first, fresh = (
        drawn([0], name, latents.shape[1:]) for name in ("video", "video 1")
    )
    noised = task.schedule.add_noise(latents, first, np.array([999]))
    start = mixed_noise(keras.ops.convert_to_numpy(noised), fresh)
    two = generate(task, free_init=2, output="latents", **options)
    monkeypatch.setattr(text_to_video, "_noise", lambda *_: start)
    from_there = generate(task, output="latents", **options)
    np.testing.assert_allclose(two, from_there, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "scheduler", ["ddim", "euler", "euler-ancestral", "unipc", "lcm", "tcd"]
)
def test_every_scheduler_gives_its_own_video(task, hint, scheduler):
    video = generate(task, hint_image=hint, num_steps=4, scheduler=scheduler)
    again = generate(task, hint_image=hint, num_steps=4, scheduler=scheduler)
    default = generate(task, hint_image=hint, num_steps=4)
    np.testing.assert_array_equal(video, again)
    assert difference(video, default) > 1


# A first frame is made too, with the same guidance.
def test_guidance_at_all_noise_levels_is_guidance_to_the_bit(task):
    default = generate(task, num_steps=4)
    settings = {"guidance_interval": (0, 1), "guidance_rescale": 0}
    np.testing.assert_array_equal(generate(task, num_steps=4, **settings), default)


def test_guidance_at_no_noise_level_is_no_guidance(task, hint):
    unguided = generate(task, hint_image=hint, guidance_scale=1.0)
    nowhere = generate(task, hint_image=hint, guidance_interval=[0, 0])
    np.testing.assert_array_equal(nowhere, unguided)


def test_guidance_at_some_noise_levels_lies_between(task, hint, monkeypatch):
    stretches, call = [], DenoisingLoop.__call__

    def recording(self, *args, **options):
        stretches.append(options["guided_steps"])
        return call(self, *args, **options)

    monkeypatch.setattr(DenoisingLoop, "__call__", recording)
    settings = {"hint_image": hint, "num_steps": 10, "scheduler": "ddim"}
    middle = generate(task, **settings, guidance_interval=(0.3, 0.9))
    # Of the timesteps 901, 801, ..., 1 those with a noise level between.
    assert stretches == [range(4, 9)]
    assert difference(middle, generate(task, **settings)) > 1


def test_rescaled_guidance_gives_another_video(task, hint, video):
    assert difference(generate(task, hint_image=hint, guidance_rescale=0.7), video) > 1


def test_without_temporal_parts_a_frame_does_not_depend_on_the_others(task, hint):
    def first_two(num_frames, spatial_only):
        video = generate(
            task, hint_image=hint, num_frames=num_frames, spatial_only=spatial_only
        )
        return video[:, :2]

    assert difference(first_two(2, True), first_two(4, True)) <= 1
    assert difference(first_two(4, True), first_two(4, False)) > 1


# Hint and mask.


def test_a_hint_of_another_size_covers_the_frame_and_is_cropped(task, hint, video):
    fitted = cover_crop(hint, 128, 128)
    np.testing.assert_array_equal(generate(task, hint_image=fitted), video)
    assert difference(generate(task, hint_image=255 - hint), video) > 1


def test_hints_may_be_given_for_each_prompt(task, hint):
    prompts, hints = ["a cat", "a dog"], [hint, hint[::-1]]
    own = generate(task, prompts, hint_image=hints)
    same = generate(task, prompts, hint_image=hint)
    np.testing.assert_array_equal(own[0], same[0])
    assert difference(own[1], same[1]) > 1
    turned = generate(task, "a dog", hint_image=hint[::-1], seed=1)
    assert difference(own[1], turned[0]) <= 1


def test_what_the_mask_fills_does_not_depend_on_the_hint(task, hint):
    hint = cover_crop(hint, 128, 128)
    left = np.zeros((128, 128), bool)
    left[:, :64] = True
    other = hint.copy()
    other[left] = 255 - other[left]

    video = generate(task, hint_image=hint, mask_image=left)
    np.testing.assert_array_equal(
        generate(task, hint_image=other, mask_image=left), video
    )
    kept = generate(task, hint_image=other, mask_image=~left)
    assert difference(kept, generate(task, hint_image=hint, mask_image=~left)) > 1


def test_a_mask_of_zeros_is_no_mask_and_one_of_ones_hides_the_whole_hint(
    task, hint, video
):
    given = generate(task, hint_image=hint, mask_image=np.zeros((50, 50)))
    np.testing.assert_array_equal(given, video)
    filled = generate(task, hint_image=hint, mask_image=np.ones((50, 50)))
    assert difference(filled, video) > 1
    other = generate(task, hint_image=255 - hint, mask_image=np.ones((50, 50)))
    np.testing.assert_array_equal(filled, other)


# Without a hint.


class Tap:
    """A denoising loop that keeps what went through."""

    def __init__(self, loop):
        self.loop = loop
        self.calls = []

    def __call__(self, noise, conditions, *arguments, **options):
        latents = self.loop(noise, conditions, *arguments, **options)
        self.calls.append((conditions, keras.ops.convert_to_numpy(latents)))
        return latents


def test_without_a_hint_the_image_model_paints_a_first_frame(task, monkeypatch):
    tap = Tap(task._video_loop)
    monkeypatch.setattr(task, "_video_loop", tap)
    monkeypatch.setattr(task, "_image_loop", tap)
    generate(task, progress=ignore)
    (of_image, image), (of_video, video) = tap.calls
    zeros = np.zeros((1, 128, 128, 3), "float32")
    assert (of_image.mask == 1).all()
    np.testing.assert_array_equal(of_image.hint, task.vae.encode_video(zeros))
    assert image.shape == (1, 2, 2, 4)
    assert (of_video.mask == 0).all()
    assert of_video.hint.shape == video.shape == (1, 4, 2, 2, 4)
    assert (of_video.hint == image[:, None]).all()


def test_the_first_frame_has_its_own_guidance(task, video_without_hint):
    same = generate(task, image_guidance_scale=5.0, progress=ignore)
    np.testing.assert_array_equal(same, video_without_hint)
    other = generate(task, image_guidance_scale=7.0, progress=ignore)
    assert difference(other, video_without_hint) > 1


def test_first_frames_come_from_a_separate_model_of_four_or_nine_channels(
    task, make_unet, video_without_hint
):
    four = make_unet(1, in_channels=4)
    nine = make_unet(2)
    for weight, source in zip(nine.weights, four.weights, strict=True):
        value = keras.ops.convert_to_numpy(source)
        missing = weight.shape[-2] - value.shape[-2] if len(weight.shape) > 1 else 0
        if missing:
            # Mask and hint with no effect (docs/model.md, Inflation).
            value = np.pad(value, [*[(0, 0)] * (value.ndim - 2), (0, missing), (0, 0)])
        weight.assign(value)

    videos = [
        generate(variant(task, image_backbone=unet), progress=ignore)
        for unet in (four, nine)
    ]
    assert difference(*videos) <= 1
    assert difference(videos[0], video_without_hint) > 1


# Size.


def test_a_size_that_the_levels_cannot_halve_is_the_centre_of_one_that_they_can(
    task, video_without_hint
):
    video = generate(task, height=96, width=96, progress=ignore)
    np.testing.assert_array_equal(video, video_without_hint[:, :, 16:112, 16:112])


def test_a_hint_is_fitted_to_the_size_asked_for(task, hint):
    video = generate(task, hint_image=hint, height=96, width=128)
    assert video.shape == (1, 4, 96, 128, 3)
    fitted = generate(task, hint_image=cover_crop(hint, 96, 128), height=96, width=128)
    np.testing.assert_array_equal(video, fitted)


def test_models_of_fewer_levels_take_finer_steps_of_size(task):
    small = AutoencoderKL(block_channels=(8, 8, 8), layers_per_block=1, groups=4)
    with pytest.raises(
        ValueError, match="width must be a positive multiple of 4 pixels. Received: 50"
    ):
        generate(variant(task, vae=small), height=52, width=50)


# Progress.


def test_frames_and_guidance_that_are_not_told_are_the_task_s(task, hint):
    own = variant(task, num_frames=5, guidance_scale=3.0)
    video = own.generate("a cat", hint_image=hint, num_steps=2, seed=0)
    assert video.shape[1] == 5
    told = {"num_frames": 5, "guidance_scale": 3.0}
    np.testing.assert_array_equal(
        video, task.generate("a cat", hint_image=hint, num_steps=2, seed=0, **told)
    )


def test_every_step_is_reported_in_order_those_of_the_first_frame_too(task, hint):
    reports = []
    generate(task, hint_image=hint, progress=lambda *report: reports.append(report))
    assert reports == [(1, 2), (2, 2)]
    reports.clear()
    generate(task, num_steps=3, progress=lambda *report: reports.append(report))
    assert reports == [(step, 6) for step in range(1, 7)]


# Previews, and the decoder that is fast.


@pytest.fixture(scope="module")
def tiny():
    return AutoencoderTiny(channels=4, encoder_blocks=(1,) * 7, decoder_blocks=(1,) * 7)


@pytest.fixture(scope="module")
def fast_task(task, tiny):
    fast = variant(task)
    fast.load_fast_decoder(tiny)
    return fast


def test_previews_are_shown_every_few_steps_by_a_linear_map(task, hint):
    shown = []
    options = {"hint_image": hint, "num_steps": 5, "height": 96, "progress": ignore}
    video = generate(
        task, **options, preview=lambda *each: shown.append(each), preview_every=2
    )
    assert [each[:2] for each in shown] == [(2, 5), (4, 5)]
    for *_, frames in shown:
        # Pictures of 96 x 128, which latents of 2 x 2 show.
        assert frames.shape == (1, 4, 2, 2, 3)
        assert frames.dtype == np.uint8
    assert difference(video, generate(task, **options)) <= 1


def test_a_tiny_decoder_shows_what_it_will_decode(fast_task, tiny):
    shown = []
    video = generate(
        fast_task,
        fast_decode=True,
        preview=lambda *each: shown.append(each),
        preview_every=1,
    )
    # The first frame has two steps of its own.
    assert [each[:2] for each in shown] == [(3, 4), (4, 4)]
    assert video.shape == (1, 4, 128, 128, 3)
    assert np.ptp(video) > 8
    assert difference(shown[-1][2], video) <= 1
    assert difference(shown[0][2], video) > 1


def test_a_fast_decoder_is_no_part_of_the_task(fast_task, task):
    assert len(fast_task.variables) == len(task.variables)
    assert fast_task.get_config().keys() == task.get_config().keys()


def test_a_fast_decoder_of_other_latents_is_refused(task):
    other = AutoencoderTiny(channels=4, encoder_blocks=(1, 1), decoder_blocks=(1, 1))
    with pytest.raises(
        ValueError,
        match="decoder's downsampling_factor must be 64, as the VAE's. Received: 2",
    ):
        task.load_fast_decoder(other)


def test_a_task_in_int8_is_saved_and_generates_the_same(preset, hint, tmp_path):
    task = TextToVideo.from_preset(preset)
    whole = generate(task, hint_image=hint)
    task.quantize("int8")
    video = generate(task, hint_image=hint)
    assert 0 < difference(video, whole) < 40
    task.save_to_preset(tmp_path / "int8")
    direct = TextToVideo.from_preset(preset, dtype="int8_from_float32")
    for other in (direct, TextToVideo.from_preset(tmp_path / "int8")):
        kept = {str(v.dtype).removeprefix("torch.") for v in other.vae.variables}
        assert "int8" in kept
        assert difference(generate(other, hint_image=hint), video) <= 1


def test_there_is_no_progress_bar_where_standard_error_is_no_terminal(
    task, hint, capfd
):
    generate(task, hint_image=hint, progress=True)
    assert capfd.readouterr() == ("", "")


def test_two_threads_each_get_their_own_progress_and_video(task, hint):
    # With reports, too: TensorFlow's program that reports is another one.
    told = {"hint_image": hint, "progress": ignore}
    video = generate(task, "a cat", **told)
    other = generate(task, "a dog", num_steps=3, **told)
    reports = {"a cat": [], "a dog": []}
    videos = {}

    def run(prompt, steps):
        def report(*place):
            time.sleep(0.01)
            reports[prompt].append(place)

        options = {"hint_image": hint, "num_steps": steps, "progress": report}
        videos[prompt] = generate(task, prompt, **options)

    threads = [
        threading.Thread(target=run, args=arguments)
        for arguments in (("a cat", 2), ("a dog", 3))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reports["a cat"] == [(1, 2), (2, 2)]
    assert reports["a dog"] == [(1, 3), (2, 3), (3, 3)]
    np.testing.assert_array_equal(videos["a cat"], video)
    np.testing.assert_array_equal(videos["a dog"], other)


# Compilation.


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="torch runs without compilation"
)
def test_nothing_is_compiled_again_for_other_values(
    task, hint, video, monkeypatch, caplog
):
    traced, call = [], keras.Layer.__call__

    def traced_call(self, *args, **kwargs):
        traced.append(self.name)
        return call(self, *args, **kwargs)

    monkeypatch.setattr(keras.Layer, "__call__", traced_call)

    def compiled():
        return traced or [r for r in caplog.records if "XLA compilation" in r.message]

    def run():
        generate(task, "a dog", negative_prompts="a cat", hint_image=hint)
        generate(task, seed=5, guidance_scale=2.0, hint_image=255 - hint)
        generate(task, num_steps=9, hint_image=hint, mask_image=np.ones((9, 9)))
        for scheduler in ("euler", "ddim", "unipc", "dpm++2m-karras"):
            generate(task, hint_image=hint, scheduler=scheduler)
        assert not compiled()
        # The first may compile programs for steps without guidance and for rescaled.
        for high in (0.9, 0.95):
            traced.clear()
            caplog.clear()
            generate(task, hint_image=hint, guidance_interval=(0.5, high), num_steps=9)
            generate(task, hint_image=hint, guidance_rescale=high)
        assert not compiled()
        # Another number of frames is another shape.
        generate(task, num_frames=1, hint_image=hint)
        assert compiled()

    if keras.config.backend() == "jax":
        import jax

        with caplog.at_level(logging.WARNING), jax.log_compiles():
            run()
    else:
        run()


def test_large_frames_are_coded_in_tiles(task, hint, monkeypatch):
    sizes = []
    encode, decode = AutoencoderKL.encode_video, AutoencoderKL.decode_video

    def encoding(self, frames, tile_size=None):
        sizes.append(tile_size)
        return encode(self, frames, tile_size=tile_size)

    def decoding(self, latents, tile_size=None):
        sizes.append(tile_size)
        return decode(self, latents, tile_size=tile_size)

    monkeypatch.setattr(AutoencoderKL, "encode_video", encoding)
    monkeypatch.setattr(AutoencoderKL, "decode_video", decoding)
    frames = generate(task, hint_image=hint, height=384, tile_size=256)
    assert frames.shape == (1, 4, 384, 128, 3)
    assert sizes == [256, 256]


# What is refused.


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prompts": []}, r"prompts must be .* Received: \[\]"),
        ({"prompts": "\ud800"}, r"prompts must be valid Unicode. Received: '\\ud800'"),
        ({"negative_prompts": "\ud800"}, "negative_prompts must be valid Unicode"),
        ({"negative_prompts": ["a", "b"]}, "each of the 1 prompts. Received: 2"),
        (
            {"hint_image": np.zeros((64, 64, 3))},
            "must be uint8 .* Received: .* float64",
        ),
        ({"mask_image": np.ones((64, 64))}, "Received: mask_image without hint_image"),
        ({"num_frames": 0}, "num_frames must be a positive integer. Received: 0"),
        ({"num_frames": 2.0}, "num_frames must be a positive integer. Received: 2.0"),
        ({"height": 100}, "height must be a positive multiple of 32 .* Received: 100"),
        ({"height": 0}, "height must be a positive multiple of 32 .* Received: 0"),
        ({"width": -64}, "width must be a positive multiple of 32 .* Received: -64"),
        ({"width": 64.0}, "width must be a positive multiple of 32 .* Received: 64.0"),
        ({"num_steps": 0}, "num_steps must be a positive integer. Received: 0"),
        ({"num_steps": 1001}, "from 1 to 1000. Received: 1001"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be .* Received: nan"),
        ({"guidance_scale": "5"}, "guidance_scale must be a finite .* Received: '5'"),
        ({"image_guidance_scale": float("inf")}, "image_guidance_scale .* inf"),
        ({"guidance_rescale": 1.5}, "guidance_rescale .* from 0 to 1. Received: 1.5"),
        ({"guidance_rescale": "1"}, "guidance_rescale must be a finite .* '1'"),
        ({"guidance_interval": (0.9, 0.1)}, r"two numbers, 0 <= low.*\(0.9, 0.1\)"),
        ({"freeu": (1, 2, 3)}, "freeu must be four numbers .* Received: \\(1, 2, 3"),
        ({"freeu": (1, 2, 3, "4")}, "freeu must be a finite number .* '4'"),
        ({"free_init": 0}, "free_init must be a positive integer"),
        ({"cache_interval": 0}, "cache_interval must be a positive integer"),
        ({"cache_interval": 2, "cache_layers": 3}, "at most cache_layers=2"),
        ({"cache_interval": 2, "window": 2}, "Features are cached of videos made at"),
        ({"guidance_interval": 0.5}, "guidance_interval .* Received: 0.5"),
        ({"guidance_interval": (0, float("nan"))}, r"Received: \(0, nan\)"),
        ({"tile_size": 100}, "tile_size must be a multiple of 64 .* Received: 100"),
        ({"scheduler": "plms"}, "scheduler must be one of .* Received: 'plms'"),
        ({"scheduler": "unipcm"}, "scheduler must be one of .* Received: 'unipcm'"),
        ({"scheduler": "lcm", "num_steps": 51}, "from 1 to 50. Received: 51"),
        ({"seed": "7"}, "seed must be None, an integer from 0.* Received: '7'"),
        ({"seed": True}, "seed must be None, an integer from 0.* Received: True"),
        ({"seed": 1.5}, "seed must be None, an integer from 0.* Received: 1.5"),
        ({"prompts": 3}, "prompts must be a string .* Received: 3"),
        ({"prompts": None}, "prompts must be a string .* Received: None"),
        ({"guidance_scale": ""}, "guidance_scale must be a finite .* Received: ''"),
        ({"guidance_scale": True}, "guidance_scale must be a finite .* True"),
        ({"num_steps": "20"}, "num_steps must be a positive integer.*'20'"),
        ({"num_frames": True}, "num_frames must be a positive integer.* True"),
        ({"height": "64"}, "height must be a positive multiple of 32 .*'64'"),
        ({"tile_size": "64"}, "tile_size must be a positive integer.*'64'"),
        ({"hint_image": "cat.png"}, "hint_image must be uint8 .* 1 of 'cat.png'"),
        ({"spatial_only": "yes"}, "spatial_only must be True or False.*'yes'"),
        ({"progress": "yes"}, "progress must be True or False.*'yes'"),
        ({"fast_decode": True}, r"fast_decode needs a decoder, as of load_fast_decod"),
        ({"fast_decode": "taesd"}, "fast_decode must be True or False.*'taesd'"),
        ({"preview": True}, "preview must be a function of .* Received: True"),
        ({"preview_every": 0}, "preview_every must be a positive integer.* 0"),
        ({"scheduler": 3}, "scheduler must be one of .* Received: 3"),
        ({"seed": -1}, "seed must be None, an integer from 0.* Received: -1"),
        ({"seed": [1, 2]}, r"each of the 1 prompts. Received: \[1, 2\]"),
        (
            {"num_frames": 10**30},
            r"of at most 17,179,869,184 bytes. Received: 1 of 1000",
        ),
        ({"num_frames": 10**6}, "1 of 1000000 frames of 128 x 128 pixels"),
        ({"prompts": ["a"] * 10**6}, "1000000 of 24 frames of 128 x 128 pixels"),
        ({"height": 64 * 10**9}, "24 frames of 128 x 64000000000 pixels"),
        ({"num_steps": 10**30}, "from 1 to 1000. Received: 1000"),
        ({"guidance_scale": 10**400}, "from -1000 to 1000. Received: 1000"),
        ({"image_guidance_scale": -1001}, "from -1000 to 1000. Received: -1001"),
        ({"guidance_scale": []}, r"from -1000 to 1000. Received: \[\]"),
        ({"progress": None}, r"or a function of \(step, total\). Received: None"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_named_before_anything_is_computed(
    task, monkeypatch, arguments, message
):
    def computed(token_ids):
        raise AssertionError("the text was encoded")

    monkeypatch.setattr(task, "_encode_text", computed)
    with pytest.raises(ValueError, match=message):
        task.generate(**{"prompts": "a cat", **arguments})


def test_all_after_the_prompt_is_named(task):
    with pytest.raises(TypeError, match="positional argument"):
        task.generate("a cat", "blurry")


def test_what_is_cut_of_a_prompt_is_named(task, hint):
    with pytest.warns(UserWarning, match="Left out: 'dog'"):
        generate(task, " cat" * 10 + " dog", hint_image=hint)


def test_a_mask_is_refused_before_the_hint_is_encoded(task, hint):
    with pytest.raises(ValueError, match="must be bool, uint8 or float. .* int64"):
        generate(task, hint_image=hint, mask_image=np.ones((8, 8), int))


def test_a_scheduler_of_another_noise_schedule_is_refused(task):
    scheduler = DDIM(NoiseSchedule(beta_end=0.02))
    with pytest.raises(ValueError, match=r"expected .*make it with DDIM\(schedule="):
        generate(task, scheduler=scheduler)


def test_parts_that_do_not_fit_each_other_are_refused(task, make_unet):
    five = make_unet(1, in_channels=5)
    with pytest.raises(ValueError, match="backbone must take 4 or 9 .* in_channels=5"):
        variant(task, backbone=five)
    with pytest.raises(
        ValueError, match="image_backbone must take 4 or 9 .* in_channels=5"
    ):
        variant(task, image_backbone=five)
    narrow = TextEncoder(
        vocabulary_size=58,
        embedding_dim=8,
        hidden_dim=8,
        num_layers=1,
        num_heads=1,
        intermediate_dim=8,
        max_sequence_length=12,
    )
    with pytest.raises(ValueError, match="states have 8 channels. .* context_dim=16"):
        variant(task, text_encoder=narrow)


# Presets.


def test_a_preset_gives_the_same_video_bit_by_bit(preset, hint, video):
    task = TextToVideo.from_preset(str(preset))
    np.testing.assert_array_equal(generate(task, hint_image=hint), video)


def test_a_preset_keeps_every_part_and_setting(task, make_unet, tmp_path):
    schedule = NoiseSchedule(num_train_steps=500, beta_end=0.01)
    defaults = {"height": 64, "num_frames": 7, "guidance_scale": 2.5, "fps": 12.0}
    original = variant(
        task, image_backbone=make_unet(1, 4), schedule=schedule, **defaults
    )
    original.save_to_preset(tmp_path / "preset")
    loaded = TextToVideo.from_preset(str(tmp_path / "preset"))
    assert loaded.schedule == schedule
    assert {name: getattr(loaded, name) for name in defaults} == defaults
    assert loaded.width == 128
    np.testing.assert_array_equal(
        loaded.preprocessor.tokenize("a cat"), task.preprocessor.tokenize("a cat")
    )
    for name in ("backbone", "text_encoder", "vae", "image_backbone"):
        part, source = getattr(loaded, name), getattr(original, name)
        assert len(part.weights) == len(source.weights) > 0
        for weight, expected in zip(part.weights, source.weights, strict=True):
            np.testing.assert_array_equal(
                keras.ops.convert_to_numpy(weight),
                keras.ops.convert_to_numpy(expected),
            )


def test_a_dtype_asked_for_is_that_of_every_part(task, make_unet, tmp_path):
    variant(task, image_backbone=make_unet(1, 4)).save_to_preset(tmp_path / "preset")
    loaded = TextToVideo.from_preset(str(tmp_path / "preset"), dtype="bfloat16")
    for name in ("backbone", "text_encoder", "vae", "image_backbone"):
        part = getattr(loaded, name)
        assert part.dtype_policy.name == "bfloat16"
        assert {weight.dtype for weight in part.weights} == {"bfloat16"}


PROGRAM = """
import sys
import numpy as np
from keras_makeavid import TextToVideo
from keras_makeavid.freeinit import mixed_noise

preset, hint, out = sys.argv[1:]
frames = TextToVideo.from_preset(preset).generate(
    "a cat", num_frames=4, num_steps=2, guidance_scale=5.0, seed=0,
    hint_image=np.load(hint),
)
np.save(out, frames)
"""


def test_a_preset_gives_the_same_video_on_another_backend(
    preset, hint, video, tmp_path
):
    np.save(tmp_path / "hint.npy", hint)
    arguments = [preset, tmp_path / "hint.npy", tmp_path / "frames.npy"]
    environment = {
        "KERAS_BACKEND": OTHER_BACKEND,
        "JAX_PLATFORMS": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        env={**os.environ, **environment},
        check=True,
    )
    assert difference(np.load(tmp_path / "frames.npy"), video) <= 2


@pytest.mark.skipif(keras.config.backend() != "jax", reason="JAX has virtual devices")
def test_a_sample_is_the_same_where_there_are_more_devices(
    preset, hint, video, tmp_path
):
    np.save(tmp_path / "hint.npy", hint)
    arguments = [preset, tmp_path / "hint.npy", tmp_path / "frames.npy"]
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=3"
    subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        check=True,
    )
    np.testing.assert_array_equal(np.load(tmp_path / "frames.npy"), video)


def test_a_preset_that_cannot_be_written_leaves_the_old_one(
    task, tmp_path, monkeypatch
):
    task.save_to_preset(tmp_path / "preset")
    files = sorted(p for p in tmp_path.rglob("*"))
    contents = [p.read_bytes() for p in files if p.is_file()]
    nothing = TextToVideoPreprocessor(sequence_length=12)
    with pytest.raises(ValueError, match="no vocabulary yet"):
        variant(task, preprocessor=nothing).save_to_preset(tmp_path / "preset")
    assert sorted(p for p in tmp_path.rglob("*")) == files
    assert [p.read_bytes() for p in files if p.is_file()] == contents


def test_a_preset_names_its_task_and_kerashub_finds_its_classes(preset):
    metadata = json.loads((preset / "metadata.json").read_text())
    assert metadata["tasks"] == ["TextToVideo"]
    backbone = keras_hub.models.Backbone.from_preset(str(preset))
    assert type(backbone).__name__ == "UNetPseudo3D"


def test_a_preset_replaces_a_preset_but_nothing_else(task, tmp_path):
    folder = tmp_path / "preset"
    folder.mkdir()
    task.save_to_preset(folder)
    (folder / "task.json").write_text("old")
    task.save_to_preset(folder)
    assert (folder / "task.json").read_text() != "old"
    (folder / "task.json").unlink()
    with pytest.raises(FileExistsError, match=re.escape(f"{folder} holds files but")):
        task.save_to_preset(folder)
    assert (folder / "config.json").is_file()
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        task.save_to_preset(tmp_path / "missing" / "preset")


def test_a_task_is_made_after_any_functional_task_of_kerashub(task, hint, video):
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=8,
        num_layers=1,
        num_heads=1,
        hidden_dim=8,
        intermediate_dim=8,
        max_sequence_length=8,
    )
    keras_hub.models.BertTextClassifier(backbone, num_classes=2)
    later = variant(task)
    np.testing.assert_array_equal(generate(later, hint_image=hint), video)
