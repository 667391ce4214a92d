import zlib

import numpy as np
import pytest

from keras_makeavid.moving_shapes import (
    Description,
    MotionClips,
    draw_scene_of,
    render_at,
)
from keras_makeavid.moving_shapes.rendering import render


def scene_of(*words, seed=0):
    return draw_scene_of(Description(*words), np.random.default_rng(seed))


def covered(frames, background):
    return (frames != background).any(axis=-1)


def test_frames_are_the_same_bytes_on_every_machine():
    frames, _ = MotionClips(seed=0).batch(range(40))
    assert zlib.crc32(frames.tobytes()) == 801083730


@pytest.mark.parametrize("split", ["train", "held_out"])
@pytest.mark.parametrize("num_frames, size", [(16, 64), (32, 64), (16, 100)])
def test_whatever_is_drawn_stays_in_the_frame(split, num_frames, size):
    clips = MotionClips(seed=1, split=split)
    for index in range(60):
        frames = render(clips.scene(index), num_frames, size)
        border = np.ones((size, size), bool)
        border[1:-1, 1:-1] = False
        assert np.ptp(frames[:, border], axis=(0, 1)).max() == 0


def test_every_frame_shows_something_and_nearly_every_one_moves():
    clips = MotionClips(seed=2)
    for index in range(100):
        frames, _ = clips.clip(index)
        assert covered(frames, frames[0, 0, 0]).any(axis=(1, 2)).all()
        # At the top of a bounce two frames can be equal.
        assert (frames[1:] != frames[:-1]).any(axis=(1, 2, 3)).mean() > 0.7


def test_edges_are_anti_aliased_by_the_area_that_is_covered():
    scene = scene_of("white", "circle", "growing")
    frame = render(scene)[0].astype("float64")
    background, colour = frame[0, 0], 255 * np.array(scene.rgb)
    coverage = ((frame - background) / (colour - background)).mean(-1)
    assert coverage.sum() == pytest.approx(np.pi * (64 * scene.radius) ** 2, rel=0.02)
    assert np.sum((coverage > 0.1) & (coverage < 0.9)) > 10


def test_a_longer_clip_shows_the_same_motion_slower():
    scene = scene_of("red", "star", "moving left")
    short, long = render(scene, 16), render(scene, 31)
    np.testing.assert_array_equal(long[::2], short)


def test_a_larger_frame_shows_the_same_scene():
    scene = scene_of("green", "dancer", "waving", "grey")
    large = render(scene, 4, size=128).astype("float64")
    halved = large.reshape(4, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - render(scene, 4)).mean() < 1


def test_a_moment_is_a_frame_of_its_clip():
    scene = scene_of("blue", "square", "spinning", "brown")
    frames = render_at(scene, np.linspace(0, 1, 16)[3:5])
    np.testing.assert_array_equal(frames, render(scene)[3:5])


def test_no_frame_and_too_small_ones_are_refused():
    scene = scene_of("red", "star", "growing")
    with pytest.raises(ValueError, match="num_frames must be at least 1. Received: 0"):
        render(scene, 0)
    with pytest.raises(
        ValueError, match="size must be at least 16 pixels. Received: 8"
    ):
        render(scene, size=8)
