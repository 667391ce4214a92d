import numpy as np
import pytest

from keras_makeavid.evaluation import Gallery, evaluate

CAPTIONS = ["a red star growing", "a blue star growing", "a red square growing"]


def gallery_of(videos, **options):
    gallery = Gallery(**options)
    evaluate(videos, gallery.add)
    return gallery.picture()


def red_pixels(picture):
    return np.sum((picture[..., 0] > 150) & (picture[..., 1:] < 100).all(-1))


def test_every_caption_has_one_row_in_two_columns(clip_of):
    frames = clip_of("white", "star", "growing")
    once = gallery_of([(frames, caption) for caption in CAPTIONS])
    twice = gallery_of([(frames, caption) for caption in CAPTIONS * 2])
    assert once.shape == (2 * (16 + 72), 2 * 548, 3)
    np.testing.assert_array_equal(once, twice)


def test_a_row_shows_eight_frames_with_first_and_last(clip_of):
    frames = clip_of("white", "star", "growing", num_frames=40)
    picture = gallery_of([(frames, "a white star growing")])
    np.testing.assert_array_equal(picture[20:84, 4:68], frames[0])
    np.testing.assert_array_equal(picture[20:84, 480:544], frames[-1])


def test_what_is_wrong_is_written_in_red(clip_of):
    frames = clip_of("white", "star", "growing")
    right = gallery_of([(frames, "a white star growing")])
    wrong = gallery_of([(frames, "a blue star growing")])
    assert red_pixels(right) == 0
    assert red_pixels(wrong) > 100


def test_a_long_text_is_written_small_enough_to_end_in_its_row(clip_of):
    frames = clip_of("white", "star", "growing")
    every = "in front of a brown background a purple triangle moves to the left"
    row = gallery_of([(frames, every)])[:16, :548]
    assert red_pixels(row[:, 400:540]) > 10
    assert (row[:, 544:] == 255).all()


def test_large_frames_are_shown_small_and_few_leave_room(clip_of):
    large = clip_of("white", "star", "growing", num_frames=3, size=256)
    assert gallery_of([(large, "a white star growing")]).shape[1] == 2 * 548


def test_more_rows_than_asked_for_are_left_out(clip_of):
    frames = clip_of("white", "star", "growing")
    videos = [(frames, caption) for caption in CAPTIONS]
    assert len(gallery_of(videos, max_rows=2)) == 16 + 72


def test_an_empty_gallery_is_refused():
    with pytest.raises(ValueError, match="no videos in the gallery"):
        Gallery().picture()
