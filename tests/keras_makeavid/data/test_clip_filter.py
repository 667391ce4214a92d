import pytest

from keras_makeavid.data import ClipFilter


def test_nothing_is_left_out_unless_asked_for():
    assert ClipFilter().of_source(1, 1, 0.1) is None
    assert ClipFilter().of_length(1) is None


def test_the_shorter_side_counts():
    clip_filter = ClipFilter(min_size=256)
    assert clip_filter.of_source(256, 300, 8) is None
    assert clip_filter.of_source(255, 1000, 8) == "1000 x 255 pixels, smaller than 256"


def test_rate_and_length_count():
    clip_filter = ClipFilter(min_frames=24, min_fps=12)
    assert clip_filter.of_source(1, 1, 12) is None
    assert clip_filter.of_source(1, 1, 11.5) == "11.5 frames a second, fewer than 12"
    assert clip_filter.of_length(24) is None
    assert clip_filter.of_length(23) == "23 frames, fewer than 24"


@pytest.mark.parametrize("name", ["min_frames", "min_size", "min_fps"])
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_a_negative_least_is_refused(name, value):
    with pytest.raises(
        ValueError, match=f"{name} must be 0 or more. Received: {value}"
    ):
        ClipFilter(**{name: value})
