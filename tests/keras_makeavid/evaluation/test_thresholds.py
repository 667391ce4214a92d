import pytest

from keras_makeavid.data.motions import MotionClips
from keras_makeavid.evaluation import GeneratedVideo, Thresholds, evaluate


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
    assert Thresholds().failures(all_right) == []


def test_what_is_below_is_told_with_both_numbers(half_wrong):
    failures = Thresholds(hint_psnr=0).failures(half_wrong)
    assert any("colour of seen triples: " in failure for failure in failures)
    assert all(failure.startswith("colour") for failure in failures)
    assert all("%, below 9" in failure for failure in failures)


def test_a_lower_bar_is_passed(half_wrong):
    low = Thresholds(colour=(0.1, 0.0), hint_psnr=0)
    assert low.failures(half_wrong) == []


def test_hints_and_flicker_count_where_there_are_any(half_wrong, all_right):
    (failure,) = Thresholds(colour=(0, 0)).failures(half_wrong)
    assert failure.startswith("agreement with the hint: ")
    assert failure.endswith(" dB, below 20")
    (failure,) = Thresholds(flicker=-1).failures(all_right)
    assert failure == "flicker: 0.0 levels, above -1"


def test_a_split_without_videos_is_no_failure(all_right):
    strict = Thresholds(colour=(1, 1), shape=(1, 1), motion=(1, 1), background=(1, 1))
    assert strict.failures(all_right.of_split("seen")) == []


@pytest.mark.parametrize("rates", [(0.9,), (0.9, 1.1), (-0.1, 0.5)])
def test_what_is_no_pair_of_rates_is_refused(rates):
    with pytest.raises(ValueError, match="thresholds of motion must be two rates"):
        Thresholds(motion=rates)
