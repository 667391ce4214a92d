"""Control over time: keyframes, windows, prompts that change, video to video."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_makeavid.sampling import Conditions, DenoisingLoop
from keras_makeavid.schedulers import get_scheduler
from keras_makeavid.tasks.inputs import as_prompts, over_time
from keras_makeavid.windows import Windows

SIZE = {"height": 64, "width": 64}


def generate(task, prompts="a cat", **options):
    settings = {"num_frames": 4, "num_steps": 2, "guidance_scale": 5.0, "seed": 0}
    return task.generate(prompts, **{**settings, **SIZE, **options})


def difference(frames, others):
    assert frames.shape == others.shape
    return np.abs(frames.astype(int) - others.astype(int)).max()


@pytest.fixture(scope="module")
def clip():
    return np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), "uint8")


@pytest.fixture(scope="module")
def loop(task):
    return task._video_loop


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, "float32")


def conditions(frames, texts=()):
    context, negative = normal(2, 1, *texts, 12, 16, seed=1)
    mask = (normal(1, frames, 2, 2, 1, seed=3) > 0).astype("float32")
    return Conditions(context, negative, 5.0, mask, normal(1, frames, 2, 2, 4, seed=2))


# Windows.


def test_a_window_as_long_as_the_video_is_the_video(loop):
    table = get_scheduler("dpm++2m").table(3)
    noise, given = normal(1, 4, 2, 2, 4), conditions(4)
    plain = ops.convert_to_numpy(loop(noise, given, table))
    one = ops.convert_to_numpy(loop(noise, given, table, windows=Windows.over(4, 4, 1)))
    np.testing.assert_allclose(one, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("blend", ["pyramid", "uniform"])
def test_predictions_of_windows_are_blended_in_each_step(task, loop, blend):
    table = get_scheduler("ddim").table(1)
    noise, given = normal(1, 7, 2, 2, 4), conditions(7)
    windows = Windows.over(7, 4, 2, blend)
    np.testing.assert_array_equal(windows.starts, [0, 2, 3])
    ours = ops.convert_to_numpy(loop(noise, given, table, windows=windows))
    # DDIM is linear: of one step the results can be blended in place of predictions.
    expected = np.zeros_like(noise)
    for start, shares in zip(windows.starts, windows.shares, strict=True):
        inside = slice(start, start + 4)
        part = given._replace(mask=given.mask[:, inside], hint=given.hint[:, inside])
        made = ops.convert_to_numpy(loop(noise[:, inside], part, table))
        expected[:, inside] += made * shares[:, None, None, None]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5)


@pytest.mark.once
def test_a_long_video_is_made_in_windows(task):
    video = generate(task, num_frames=9, window=4, overlap=2, shared_noise=True)
    assert video.shape == (1, 9, 64, 64, 3)
    other = generate(task, num_frames=9, window=4, overlap=2)
    assert difference(video, other) > 10
    # Halves of guidance one after the other are the same.
    task.low_memory = True
    try:
        halves = generate(task, num_frames=9, window=4, overlap=2)
    finally:
        task.low_memory = False
    assert difference(halves, other) <= 1


# Prompts that change.


@pytest.mark.once
def test_texts_are_laid_over_frames_in_straight_lines():
    prompts, _ = as_prompts([{0: "a", 4: "b", -1: "c"}, "d"], None)
    texts, shares = over_time(prompts, 9)
    assert texts == [["a", "b", "c"], ["d", "d", "d"]]
    np.testing.assert_allclose(shares.sum(-1), 1.0)
    np.testing.assert_allclose(shares[0, [0, 1, 4, 6, 8]], [
        [1, 0, 0], [0.75, 0.25, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1],
    ])  # fmt: skip
    np.testing.assert_array_equal(shares[1], np.eye(3)[[0] * 9])
    # Before the first and after the last there is nothing to turn into.
    prompts, _ = as_prompts({2: "a", 4: "b"}, None)
    _, shares = over_time(prompts, 7)
    np.testing.assert_array_equal(shares[0, :, 0], [1, 1, 1, 0.5, 0, 0, 0])
    assert over_time(as_prompts(["a", "b"], None)[0], 3) == ([["a"], ["b"]], None)


@pytest.mark.parametrize("spatial_only", [False, True])
def test_each_frame_attends_to_its_own_mixture_of_texts(task, loop, spatial_only):
    table = get_scheduler("ddim").table(1)
    noise, given = normal(1, 4, 2, 2, 4), conditions(4, texts=(2,))
    shares = np.linspace([1, 0], [0, 1], 4, dtype="float32")[None]
    options = {"spatial_only": spatial_only}
    ours = ops.convert_to_numpy(
        loop(noise, given, table, text_shares=shares, **options)
    )
    # With frames of their own, each is a picture with the text of its frame; with the
    # temporal parts, the UNet gets the keys and values that the texts' mixture makes.
    if spatial_only:
        mixed = [
            given._replace(
                context=np.einsum("k,bk...->b...", shares[0, f], given.context),
                negative_context=np.einsum(
                    "k,bk...->b...", shares[0, f], given.negative_context
                ),
                mask=given.mask[:, f : f + 1],
                hint=given.hint[:, f : f + 1],
            )
            for f in range(4)
        ]
        frames = [
            ops.convert_to_numpy(loop(noise[:, f : f + 1], each, table, **options))
            for f, each in enumerate(mixed)
        ]
        expected = np.concatenate(frames, axis=1)
    else:
        texts = np.concatenate([given.negative_context, given.context])
        texts = np.einsum("fk,bk...->bf...", shares[0], texts)
        row = table.row(table.as_array()[0])
        inputs = np.concatenate([noise, given.mask, given.hint], axis=-1)
        keys = task.backbone.project_context(ops.convert_to_tensor(texts))
        negative, positive = np.split(
            ops.convert_to_numpy(
                task.backbone(
                    {
                        "sample": ops.convert_to_tensor(np.concatenate([inputs] * 2)),
                        "timesteps": ops.full((2,), row.timestep, "float32"),
                        "context": keys,
                    }
                )
            ),
            2,
        )
        prediction = negative + 5.0 * (positive - negative)
        denoised = (
            row.denoised_from_sample * noise + row.denoised_from_prediction * prediction
        )
        expected = row.next_from_sample * noise + row.next_from_denoised * denoised
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-4)


def test_equal_prompts_over_time_are_the_prompt(task):
    changing = {0: "a cat", 2: "a cat", -1: "a cat"}
    assert difference(generate(task, changing), generate(task)) <= 1
    other = generate(task, {0: "a cat", -1: "a dog"})
    assert difference(other, generate(task)) > 10


@pytest.mark.once
def test_prompts_that_change_go_with_others_and_with_windows(task):
    prompts = ["a cat", {0: "a cat", -1: "a dog"}]
    videos = generate(task, prompts, num_frames=6, window=4, seed=[0, 0])
    assert difference(videos[0], videos[1]) > 10
    alone = generate(task, "a cat", num_frames=6, window=4)
    assert difference(videos[:1], alone) <= 1


# Keyframes.


@pytest.mark.once
def test_keyframes_come_back_as_the_vae_has_them(task, clip):
    video = generate(task, keyframes={0: clip[0], -1: clip[3]})
    known = task.vae.decode_video(task.vae.encode_video(clip))
    assert difference(video[0, [0, 3]], known[[0, 3]]) <= 1
    again = generate(task, keyframes={3: clip[3], -4: clip[0]})
    np.testing.assert_array_equal(again, video)
    assert difference(generate(task, keyframes={0: clip[0]})[:, 1:], video[:, 1:]) > 10


@pytest.mark.once
def test_keyframes_may_be_latents(task, clip):
    latents = task.vae.encode_video(clip[:1])
    video = generate(task, keyframes={0: clip[0]})
    assert difference(generate(task, keyframes={0: latents}), video) <= 1


@pytest.mark.once
def test_latents_come_as_they_are(task):
    latents = generate(task, output="latents")
    assert latents.shape == (1, 4, 1, 1, 4) and latents.dtype == "float32"
    assert difference(task.vae.decode_video(latents), generate(task)) <= 1


@pytest.mark.once
def test_the_model_is_told_which_frames_are_given(task, clip, monkeypatch):
    seen = []

    def spy(noise, conditions, *rest, **options):
        seen.append(conditions)
        return loop(noise, conditions, *rest, **options)

    loop = task._video_loop
    monkeypatch.setattr(task, "_video_loop", spy)
    generate(task, keyframes={1: clip[1], 3: clip[3]})
    np.testing.assert_array_equal(seen[-1].mask[0, :, 0, 0, 0], [1, 0, 1, 0])
    hints = seen[-1].hint[0]
    np.testing.assert_array_equal(hints[0], hints[1])
    np.testing.assert_array_equal(hints[2], hints[1])
    assert np.abs(hints[3] - hints[1]).max() > 0.01
    # The published form for one hint: mask 0 everywhere.
    generate(task, hint_image=clip[0])
    assert not seen[-1].mask.any()
    # A model that was trained with masks gets one.
    given = type(task._given_frames)({"first": 1})
    monkeypatch.setattr(task, "_given_frames", given)
    generate(task, hint_image=clip[0])
    np.testing.assert_array_equal(seen[-1].mask[0, :, 0, 0, 0], [0, 1, 1, 1])
    generate(task)
    np.testing.assert_array_equal(seen[-1].mask[0, :, 0, 0, 0], [0, 1, 1, 1])


@pytest.mark.once
def test_a_model_that_learnt_to_make_all_frames_makes_the_first_as_well(
    task, monkeypatch
):
    given = type(task._given_frames)({"first": 1, "none": 1})
    monkeypatch.setattr(task, "_given_frames", given)
    steps = []
    video = generate(task, progress=lambda *step: steps.append(step))
    assert steps == [(1, 2), (2, 2)]
    loop = task._video_loop
    context = task.encode_prompts(["a cat"]), task.encode_prompts([""])
    from keras_makeavid.tasks.text_to_video import _noise

    hint = np.zeros((1, 4, 1, 1, 4), "float32")
    given = Conditions(*context, 5.0, np.ones_like(hint[..., :1]), hint)
    table = get_scheduler("dpm++2m", task.schedule).table(2)
    latents = loop(_noise([0], "video", hint.shape[1:]), given, table)
    latents = ops.convert_to_numpy(latents)
    assert difference(task.vae.decode_video(latents), video) <= 1


# Video to video.


def test_a_video_is_changed_by_its_strength(task, clip):
    known = task.vae.decode_video(task.vae.encode_video(clip))
    settings = {"video": clip, "num_frames": None, "num_steps": 10}
    little = generate(task, **settings, strength=0.1)
    much = generate(task, **settings, strength=0.9)
    errors = [np.abs(made[0].astype(float) - known).mean() for made in (little, much)]
    assert errors[0] < errors[1] - 5
    steps = []
    generate(task, **settings, strength=0.35, progress=lambda *s: steps.append(s))
    # Three steps of the picture, three of the video.
    assert steps == [(i, 6) for i in range(1, 7)]


@pytest.mark.once
def test_the_first_frame_of_a_video_is_changed_too(task, clip):
    settings = {"video": clip, "num_frames": None, "num_steps": 4, "strength": 0.5}
    own = generate(task, **settings)
    hinted = generate(task, **settings, hint_image=clip[0])
    assert difference(own, hinted) > 10


# In-betweens and continuation.


@pytest.mark.once
def test_interpolate_keeps_the_frames_and_makes_those_between(task, clip):
    video = task.interpolate(clip[:2], factor=3, num_steps=2, seed=0, **SIZE)
    expected = generate(
        task, "", keyframes={0: clip[0], 3: clip[1]}, guidance_scale=1.0
    )
    np.testing.assert_array_equal(video, expected)
    assert task.interpolate(clip, factor=4, num_steps=1, **SIZE).shape[1] == 13


@pytest.mark.once
def test_extend_goes_on_from_the_last_frames(task, clip, monkeypatch):
    monkeypatch.setattr(task, "num_frames", 4)
    options = {"context_frames": 2, "num_steps": 2, "seed": 3, **SIZE}
    video = task.extend(clip, 7, "a cat", guidance_scale=5.0, **options)
    assert video.shape == (1, 7, 64, 64, 3)
    np.testing.assert_array_equal(video[0, :4], clip)
    first = generate(task, keyframes={0: clip[2], 1: clip[3]}, seed=3)
    # What the VAE loses of the last frame fades out.
    known = task.vae.decode_video(task.vae.encode_video(clip[None, 3:]))
    lost = clip[3].astype("float32") - known
    faded = first[:, 2:] + lost / np.array([1, 2])[:, None, None, None]
    assert difference(video[:, 4:6], np.rint(faded.clip(0, 255))) <= 1
    longer = task.extend(clip, 8, "a cat", guidance_scale=5.0, **options)
    np.testing.assert_array_equal(longer[:, :7], video)


# What does not go together.


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 5}, "window must be at most num_frames, 4. Received: 5"),
        ({"window": 0}, "window must be a positive integer"),
        ({"window": 2, "overlap": 2}, "overlap must be an integer from 0 to 1"),
        ({"window": 2, "blend": "flat"}, "blend must be one of"),
        ({"keyframes": {}}, "keyframes must be a dict of pictures by frame"),
        ({"keyframes": {4: "clip"}}, "frames of keyframes must be from 0 to 3"),
        ({"keyframes": {0: "clip", -4: "clip"}}, "one picture at a frame"),
        ({"keyframes": {0: "clip"}, "hint_image": "clip"}, "Received: both"),
        ({"keyframes": {0: np.zeros((2, 2))}}, r"keyframes\[0\] must be uint8"),
        ({"prompts": {}}, "A prompt that changes must be a dict"),
        ({"prompts": {"0": "a"}}, "A prompt that changes must be a dict"),
        ({"prompts": {0: 3}}, "prompts must"),
        ({"prompts": {0: "a", 4: "b"}}, "frames of prompts must be from 0 to 3"),
        ({"prompts": {0: "a", -4: "b"}}, "one text at a frame"),
        ({"video": np.zeros((4, 8, 8, 3))}, "video must be uint8"),
        ({"video": "video", "num_frames": 3}, "num_frames must be that of the video"),
        ({"video": "video", "strength": 0}, "strength must be a number up to 1"),
        ({"video": "video", "strength": 1.1}, "strength must be a number up to 1"),
        ({"video": "video", "strength": 0.4}, "at least 0.5. Received: 0.4"),
        ({"output": "frames"}, r"output must be one of \['video', 'latents'\]"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_computed(
    task, clip, options, message, monkeypatch
):
    def fail(*_, **__):
        raise AssertionError("something was computed")

    for name in ("_encode_text", "_video_loop", "_image_loop"):
        monkeypatch.setattr(task, name, fail)
    monkeypatch.setattr(task.vae, "encode_video", fail)
    values = {"clip": clip[0], "video": clip}
    options = {
        name: values.get(value, value) if isinstance(value, str) else value
        for name, value in options.items()
    }
    if "keyframes" in options:
        options["keyframes"] = {
            frame: clip[0] if isinstance(picture, str) else picture
            for frame, picture in options["keyframes"].items()
        }
    with pytest.raises(ValueError, match=message):
        generate(task, **{"prompts": "a cat", **options})


@pytest.mark.once
def test_extend_and_interpolate_refuse_what_makes_no_sense(task, clip):
    with pytest.raises(ValueError, match="must be extended to more"):
        task.extend(clip, 4)
    with pytest.raises(ValueError, match="from at most 4"):
        task.extend(clip, 8, context_frames=5)
    with pytest.raises(ValueError, match="extend has no window"):
        task.extend(clip, 8, window=4)
    with pytest.raises(ValueError, match="extend has no prompts that change"):
        task.extend(clip, 8, {0: "a cat", 3: "a dog"})
    with pytest.raises(ValueError, match="factor must be a positive integer"):
        task.interpolate(clip, factor=0)


@pytest.mark.once
def test_a_model_of_latents_alone_takes_no_keyframes(make_unet, task, clip):
    from keras_makeavid import TextToVideo

    parts = (task.preprocessor, task.text_encoder, task.vae)
    other = TextToVideo(make_unet(1, in_channels=4), *parts)
    with pytest.raises(ValueError, match="The UNet takes latents alone"):
        generate(other, keyframes={0: clip[0]})
    assert generate(other, video=clip, num_frames=None).shape == (1, 4, 64, 64, 3)


@pytest.mark.skipif(keras.config.backend() == "torch", reason="it compiles nothing")
def test_another_prompt_seed_or_guidance_compiles_nothing(make_unet):
    unet, traces, counts = make_unet(0), [], []
    call = unet.network.call
    unet.network.call = lambda *args, **kw: traces.append(1) or call(*args, **kw)
    loop = DenoisingLoop(unet)
    table = get_scheduler("dpm++2m").table(2)
    for seed, guidance in ((0, 5.0), (1, 7.0)):
        texts = conditions(6, texts=(2,))._replace(guidance_scale=guidance)
        shares = np.abs(normal(1, 6, 2, seed=seed))
        loop(
            normal(1, 6, 2, 2, 4, seed=seed),
            texts._replace(context=texts.context + seed),
            table,
            windows=Windows.over(6, 4, 2),
            text_shares=shares,
        )
        counts.append(len(traces))
    assert counts[0] >= 1 and counts[0] == counts[1]
