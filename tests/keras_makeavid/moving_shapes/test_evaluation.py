import numpy as np
import pytest

from keras_makeavid.moving_shapes import (
    GeneratedVideo,
    MotionClips,
    evaluate,
    failures,
)
from keras_makeavid.moving_shapes.evaluation import ATTRIBUTES


@pytest.fixture(scope="module")
def evaluation():
    """Of true clips: 150 of triples that training shows and 50 of others."""
    train, held = (MotionClips(seed=4, split=split) for split in ("train", "held_out"))
    clips = [train.clip(index) for index in range(150)]
    return evaluate(clips + [held.clip(index) for index in range(50)])


def test_true_clips_are_right_in_both_splits(evaluation):
    for split, count in (("seen", 150), ("held_out", 50)):
        part = evaluation.of_split(split)
        assert len(part.results) == count
        for name in (*ATTRIBUTES, "all"):
            assert part.rate(name) >= 0.98
            assert part.count(name) == round(part.rate(name) * count)


def test_with_shuffled_captions_rates_fall_to_chance(evaluation):
    control = evaluation.shuffled()
    chances = {"colour": 1 / 6, "shape": 1 / 5, "motion": 1 / 10, "background": 3 / 8}
    for name, chance in chances.items():
        assert control.rate(name) == pytest.approx(chance, abs=0.1)
    assert control.rate("all") < 0.05
    assert control.shuffled() == evaluation.shuffled().shuffled()


def test_true_clips_keep_their_shape_to_the_end(evaluation):
    assert evaluation.last_shape > 99


def test_what_is_wrong_is_named(clip_of):
    frames = clip_of("red", "star", "moving left", "grey")
    (result,) = evaluate([(frames, "a red square moving left on grey")]).results
    assert result.wrong == ["shape"]
    (result,) = evaluate([(frames, "a blue star growing")]).results
    assert result.wrong == ["colour", "motion", "background"]


def test_the_hint_is_compared_with_the_first_frame_at_its_size(clip_of):
    frames = clip_of("red", "star", "moving left")
    hints = [frames[0], np.repeat(np.repeat(frames[0], 2, 0), 2, 1), frames[15], None]
    videos = [GeneratedVideo(frames, "a red star moving left", 0, h) for h in hints]
    results = evaluate(videos).results
    same, enlarged, other, none = (result.hint_psnr for result in results)
    assert same == pytest.approx(100)
    assert enlarged > 30 > other > 5
    assert none is None


def test_videos_are_taken_one_by_one_and_shown(clip_of):
    frames, shown = clip_of("red", "star", "growing"), []

    def videos():
        for number in range(3):
            assert len(shown) == number
            yield GeneratedVideo(frames, "a red star growing", number)

    evaluate(videos(), lambda result, frames: shown.append((result.seed, frames)))
    assert [seed for seed, _ in shown] == [0, 1, 2]
    assert all(each is frames for _, each in shown)


def test_rates_of_nothing_are_no_numbers():
    nothing = evaluate([])
    for value in (nothing.rate("colour"), nothing.flicker, nothing.last_shape):
        assert np.isnan(value)


def test_a_caption_of_another_world_is_refused(clip_of):
    frames = clip_of("red", "star", "growing")
    with pytest.raises(ValueError, match="Received: 'a cat'"):
        evaluate([(frames, "a cat")])


@pytest.fixture(scope="module")
def all_right():
    return evaluate(MotionClips(seed=1).clip(index) for index in range(10))


@pytest.fixture(scope="module")
def half_wrong():
    """Of seen triples; every other caption names another colour."""
    clips = MotionClips(seed=1)
    other = {"red": "green", "green": "red", "blue": "white", "white": "blue"}
    videos = []
    for index in range(10):
        scene = clips.scene(index)
        colour = other.get(scene.colour, "red") if index % 2 else scene.colour
        text = f"a {colour} {scene.shape} {scene.motion} on {scene.background}"
        frames = clips.clip(index)[0]
        videos.append(GeneratedVideo(frames, text, index, 255 - frames[0]))
    return evaluate(videos)


def test_true_clips_pass_the_small_model_s_bar(all_right):
    assert failures(all_right) == []


def test_what_is_below_is_told_with_both_numbers(half_wrong):
    *found, agreement = failures(half_wrong)
    assert any("colour of seen triples: " in failure for failure in found)
    assert all(failure.startswith("colour") for failure in found)
    assert all("%, below 9" in failure for failure in found)
    assert agreement.startswith("agreement with the hint: ")
    assert agreement.endswith(" dB, below 20")


def test_a_split_without_videos_is_no_failure(all_right):
    assert failures(all_right.of_split("seen")) == []
