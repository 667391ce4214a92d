from collections import Counter

import numpy as np
import pytest

from keras_makeavid.moving_shapes import (
    Description,
    Measured,
    MotionClips,
    draw_scene_of,
    render_at,
)
from keras_makeavid.moving_shapes.evaluation import ATTRIBUTES
from keras_makeavid.moving_shapes.measure import (
    measure_video,
    name_background,
    name_colour,
    psnr,
)


def rates(clips, count=100):
    """The share of `(scene, frames)` in which each attribute is measured rightly."""
    right = Counter()
    for scene, frames in clips:
        measured = measure_video(frames)
        for name in ATTRIBUTES:
            right[name] += getattr(measured, name) == getattr(scene, name)
    return {name: right[name] / count for name in ATTRIBUTES}


# True clips.


@pytest.mark.parametrize(
    "ways", ["", "blur", "noise", "half", "blocks", "blur noise half drift"]
)
def test_98_of_100_true_clips_are_measured_rightly_however_degraded(ways, degrade):
    rng = np.random.default_rng(0)
    splits = [MotionClips(seed=1, split=split) for split in ("train", "held_out")]
    found = rates(
        (clips.scene(index), degrade(clips.clip(index)[0], ways, rng))
        for clips in splits
        for index in range(50)
    )
    assert min(found.values()) >= 0.98, found


@pytest.mark.parametrize("num_frames, size", [(32, 64), (10, 64), (16, 150)])
def test_so_are_clips_of_other_lengths_and_sizes(num_frames, size):
    clips = MotionClips(seed=2, num_frames=num_frames, size=size)
    found = rates(
        ((clips.scene(index), clips.clip(index)[0]) for index in range(40)), count=40
    )
    assert min(found.values()) >= 0.98, found


def test_a_motion_that_goes_on_out_of_the_frame_is_still_that_motion():
    clips = MotionClips(seed=3)
    twice = np.linspace(0, 2, 32)
    scenes = [clips.scene(index) for index in range(50)]
    # Nothing can shrink so far.
    scenes = [scene for scene in scenes if scene.motion != "shrinking"][:40]
    found = rates(((scene, render_at(scene, twice)) for scene in scenes), count=40)
    assert min(found.values()) >= 0.97, found


# Where there is no motion, or no object.


@pytest.mark.parametrize("shape", ["circle", "star"])
def test_a_still_or_trembling_shape_has_no_motion(shape, clip_of, degrade):
    rng = np.random.default_rng(0)
    frame = clip_of("red", shape, "moving left", "grey")[7]
    still = np.stack([frame] * 16)
    trembling = np.stack(
        [np.roll(frame, rng.integers(-1, 2, 2), (0, 1)) for _ in still]
    )
    for frames in (still, trembling):
        assert measure_video(degrade(frames, "blur noise", rng)).motion is None


def test_a_still_or_trembling_dancer_does_not_dance(clip_of, degrade):
    rng = np.random.default_rng(0)
    frame = clip_of("white", "dancer", "waving", "brown")[3]
    still = np.stack([frame] * 16)
    trembling = np.stack(
        [np.roll(frame, rng.integers(-1, 2, 2), (0, 1)) for _ in still]
    )
    for frames in (still, trembling):
        measured = measure_video(degrade(frames, "blur noise", rng))
        assert (measured.shape, measured.motion) == ("dancer", None)


@pytest.mark.parametrize("motion", ["moving up", "growing", "shrinking", "spinning"])
def test_frames_in_random_order_lose_their_motion(motion, clip_of):
    rng = np.random.default_rng(0)
    clips = [clip_of("blue", "square", motion, seed=seed) for seed in range(10)]
    found = [measure_video(frames).motion for frames in clips]
    mixed = [measure_video(rng.permutation(frames)).motion for frames in clips]
    assert found.count(motion) == 10
    assert mixed.count(motion) <= 3


def test_a_shape_that_is_lost_at_last_is_seen(clip_of):
    frames = clip_of("blue", "square", "spinning").copy()
    assert measure_video(frames).last_shape == "square"
    frames[12:] = clip_of("blue", "circle", "growing")[12:]
    measured = measure_video(frames)
    assert (measured.shape, measured.last_shape) == ("square", "circle")


def test_one_frame_shows_all_but_the_motion(clip_of):
    measured = measure_video(clip_of("green", "triangle", "growing", "grey")[:1])
    assert measured == Measured("green", "triangle", None, "grey", 0.0, "triangle")


def test_an_empty_frame_shows_its_background_only():
    frames = np.full((16, 64, 64, 3), 120, "uint8")
    assert measure_video(frames) == Measured(None, None, None, "grey", 0.0)
    rng = np.random.default_rng(0)
    noise = np.clip(rng.normal(10, 8, frames.shape), 0, 255).astype("uint8")
    assert measure_video(noise).shape is None


def test_what_is_no_video_is_refused():
    with pytest.raises(ValueError, match="Frames must be uint8 of shape"):
        measure_video(np.zeros((16, 64, 64, 3)))


# Flicker and agreement.


def test_motion_is_no_flicker(clip_of):
    for motion in ("moving left", "growing", "spinning", "bouncing"):
        assert measure_video(clip_of("red", "star", motion)).flicker < 0.1


def test_a_change_of_brightness_is_flicker_by_its_size(clip_of):
    frames = clip_of("yellow", "square", "moving right", "grey").copy()
    frames[::2] -= 10
    assert measure_video(frames).flicker == pytest.approx(10, abs=0.5)


def test_a_change_within_the_object_is_flicker_too(clip_of):
    frames = clip_of("white", "circle", "moving right", "grey")
    shaded = frames.copy()
    shaded[::2][frames[::2] > 200] -= 30
    assert 0.5 < measure_video(shaded).flicker < 3


def test_psnr_is_in_decibels_of_the_mean_square():
    picture = np.zeros((8, 8, 3), "uint8")
    assert psnr(picture, picture) == pytest.approx(100)
    assert psnr(picture, picture + 255) == pytest.approx(0)
    assert psnr(picture, picture + 1) == pytest.approx(48.13, abs=0.01)
    with pytest.raises(ValueError, match=r"of one size. Received: \(8, 8, 3\) and"):
        psnr(picture, picture[:4])


def scenes(**words):
    rng = np.random.default_rng(0)
    words = {"colour": "red", "shape": "star", "motion": "growing", **words}
    return [draw_scene_of(Description(**words), rng) for _ in range(50)]


@pytest.mark.parametrize(
    "colour", ["red", "green", "blue", "yellow", "purple", "white"]
)
def test_every_shade_of_a_colour_has_its_name_also_when_it_drifted(colour):
    for scene in scenes(colour=colour):
        rgb = 255 * np.array(scene.rgb)
        for drift in (0, -15, (12, -12, 12)):
            assert name_colour(np.clip(rgb + drift, 0, 255)) == colour


@pytest.mark.parametrize("background", ["black", "grey", "brown"])
def test_every_shade_of_a_background_has_its_name_also_when_it_drifted(background):
    for scene in scenes(background=background):
        rgb = 255 * np.array(scene.background_rgb)
        for drift in (0, -10, 10):
            assert name_background(np.clip(rgb + drift, 0, 255)) == background


@pytest.mark.parametrize("rgb", [(0, 220, 220), (100, 100, 100), (40, 0, 0)])
def test_cyan_grey_and_near_black_are_no_colour_of_an_object(rgb):
    assert name_colour(np.array(rgb)) is None


@pytest.mark.parametrize("rgb", [(250, 250, 250), (60, 60, 200), (40, 120, 40)])
def test_white_and_bright_colours_are_no_background(rgb):
    assert name_background(np.array(rgb)) is None
