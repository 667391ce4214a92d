import pickle

import numpy as np
import pytest

from keras_makeavid.moving_shapes import MotionClips, held_out
from keras_makeavid.moving_shapes.captions import caption, parse_caption
from keras_makeavid.moving_shapes.rendering import render


def test_a_clip_depends_on_the_seed_and_its_number_only():
    frames, text = MotionClips(seed=3).clip(17)
    clips = MotionClips(seed=3)
    for index in (5, 17, 2**40):
        clips.clip(index)
    again, same_text = pickle.loads(pickle.dumps(clips)).clip(17)
    np.testing.assert_array_equal(again, frames)
    assert same_text == text
    other, _ = MotionClips(seed=4).clip(17)
    assert (other != frames).any()


def test_a_clip_shows_its_scene_and_its_caption_says_it():
    clips = MotionClips(seed=1, num_frames=5, size=48)
    for index in range(20):
        scene = clips.scene(index)
        frames, text = clips.clip(index)
        np.testing.assert_array_equal(frames, render(scene, 5, 48))
        assert caption(parse_caption(text)) == caption(scene)


def test_a_batch_is_its_clips():
    clips = MotionClips()
    frames, texts = clips.batch([9, 2, 9])
    assert frames.shape == (3, 16, 64, 64, 3)
    assert frames.dtype == "uint8"
    for row, index in enumerate((9, 2, 9)):
        np.testing.assert_array_equal(frames[row], clips.clip(index)[0])
        assert texts[row] == clips.clip(index)[1]


def test_images_are_moments_of_the_clips_with_their_captions():
    clips = MotionClips(num_frames=200)
    images, texts = clips.images(range(6))
    for index, image in enumerate(images):
        frames, text = clips.clip(index)
        assert texts[index] == text
        differences = np.abs(frames.astype(int) - image).mean(axis=(1, 2, 3))
        assert differences.min() < 0.5


def test_images_of_one_moment_are_first_or_last_frames():
    clips = MotionClips()
    frames, texts = clips.batch(range(5))
    for moment, frame in ((0.0, 0), (1.0, -1)):
        images, same_texts = clips.images(range(5), moment)
        np.testing.assert_array_equal(images, frames[:, frame])
        assert same_texts == texts


def test_splits_share_no_triple():
    train, held = (MotionClips(split=split) for split in ("train", "held_out"))
    assert not any(held_out(train.scene(i).triple) for i in range(100))
    assert all(held_out(held.scene(i).triple) for i in range(100))


def test_an_unknown_split_is_refused_at_once():
    with pytest.raises(ValueError, match="split must be one of .*train.*held_out"):
        MotionClips(split="validation")


def test_a_motion_can_be_shown_often():
    clips = MotionClips(often=("spinning", 0.5))
    scenes = [clips.scene(index) for index in range(300)]
    spinning = [scene for scene in scenes if scene.motion == "spinning"]
    # Half are sure to, and of the others one in thirteen does.
    assert 0.47 < len(spinning) / len(scenes) < 0.61
    assert {scene.shape for scene in spinning} == {"square", "triangle", "star"}
    assert not any(held_out(scene.triple) for scene in scenes)
    _, text = clips.clip(7)
    assert caption(parse_caption(text)) == caption(clips.scene(7))


@pytest.mark.parametrize(
    ("often", "message"),
    [
        (("flying", 0.5), "motion must be one of .* Received: 'flying'"),
        (("spinning", 1.5), "over 0 and at most 1. Received: 1.5"),
    ],
)
def test_an_unknown_motion_or_share_is_refused(often, message):
    with pytest.raises(ValueError, match=message):
        MotionClips(often=often)
