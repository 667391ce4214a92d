import numpy as np
import pytest

from keras_makeavid.video import contact_sheet, read_video


def test_frames_stand_in_reading_order_with_white_gaps():
    frames = np.repeat(np.arange(6, dtype="uint8"), 8 * 10 * 3).reshape(6, 8, 10, 3)
    sheet = contact_sheet(frames, columns=3)
    assert sheet.shape == (4 + 2 * 12, 4 + 3 * 14, 3)
    tiles = [sheet[y : y + 8, x : x + 10] for y in (4, 16) for x in (4, 18, 32)]
    np.testing.assert_array_equal(tiles, frames)
    gaps = sheet.copy()
    for y in (4, 16):
        for x in (4, 18, 32):
            gaps[y : y + 8, x : x + 10] = 255
    assert gaps.min() == 255


def test_many_frames_are_thinned_evenly_with_both_ends():
    frames = np.repeat(np.arange(100, dtype="uint8"), 12).reshape(100, 2, 2, 3)
    sheet = contact_sheet(frames, columns=12, max_frames=12)
    assert sheet[5, 5::6, 0].tolist() == [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99]


def test_a_real_clip_fits_in_the_width(real_clip):
    frames = read_video(real_clip("bikes"), fps=2)
    sheet = contact_sheet(frames, max_width=500)
    assert sheet.dtype == np.uint8
    assert 480 < sheet.shape[1] <= 500
    # Each row of the grid is as full as the columns allow: the shape is about square.
    assert 0.5 < sheet.shape[0] / sheet.shape[1] < 1.5


def test_fewer_frames_than_columns_leave_no_empty_column():
    frames = np.zeros((2, 8, 8, 3), "uint8")
    assert contact_sheet(frames, columns=5).shape == (16, 28, 3)


def test_what_cannot_be_laid_out_is_refused():
    frames = np.zeros((24, 8, 8, 3), "uint8")
    with pytest.raises(ValueError, match="24 columns do not fit in max_width=64"):
        contact_sheet(frames, columns=24, max_width=64)
    for argument in ("columns", "max_width", "max_frames"):
        with pytest.raises(ValueError, match=f"{argument} must be at least 1"):
            contact_sheet(frames, **{argument: 0})
    with pytest.raises(ValueError, match=r"Frames must be uint8 .* float64"):
        contact_sheet(frames / 255)
