import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from keras_makeavid.moving_shapes import (
    Gallery,
    GeneratedVideo,
    MotionClips,
    Thresholds,
    evaluate,
    markdown_table,
    write_report,
)
from keras_makeavid.video import read_image


@pytest.fixture(scope="module")
def gallery():
    return Gallery()


@pytest.fixture(scope="module")
def evaluation(gallery):
    clips = MotionClips(seed=1)
    videos = [clips.clip(index) for index in range(8)]
    return evaluate([GeneratedVideo(*v, 5, v[0][0]) for v in videos], gallery.add)


def test_the_table_has_rates_bars_and_the_control(evaluation):
    lines = markdown_table(evaluation, Thresholds()).splitlines()
    assert lines[0] == "| | seen | held-out | shuffled captions |"
    assert lines[2] == "| videos | 8 | 0 | 8 |"
    assert lines[3].startswith("| colour | 100.0% (at least 98%) | none | ")
    assert lines[-1] == "| first frame to hint, dB | 100.0 | none |  |"
    assert {line.count("|") for line in lines} == {5}


def test_without_hints_the_table_does_not_speak_of_them():
    evaluation = evaluate([MotionClips(seed=1).clip(0)])
    assert "hint" not in markdown_table(evaluation, Thresholds())


def test_a_report_is_a_table_data_and_a_picture(evaluation, gallery, tmp_path):
    folder = tmp_path / "report"
    settings = {"preset": "true clips", "steps": 20}
    for _ in range(2):
        paths = write_report(folder, evaluation, Thresholds(), gallery, settings)
    assert sorted(folder.iterdir()) == sorted(paths)
    assert [path.name for path in paths] == [
        "evaluation.json",
        "evaluation.html",
        "gallery.png",
    ]
    content = json.loads((folder / "evaluation.json").read_text())
    assert content["settings"] == settings
    assert content["failures"] == []
    assert content["rates"]["seen"]["motion"] == 1.0
    assert content["rates"]["held_out"]["motion"] is None
    assert content["thresholds"]["motion"] == [0.95, 0.88]
    assert len(content["videos"]) == 8
    assert content["videos"][0]["seed"] == 5
    assert content["videos"][0]["wrong"] == []
    text = (folder / "evaluation.html").read_text()
    assert "<td>100.0% (at least 95%)</td>" in text
    assert "<p>preset: true clips; steps: 20</p>" in text
    assert "All reach the bar." in text
    assert read_image(folder / "gallery.png").shape == gallery.picture().shape


def test_a_report_names_what_is_below_the_bar(evaluation, gallery, tmp_path):
    bar = Thresholds(flicker=-1)
    write_report(tmp_path / "report", evaluation, bar, gallery, {})
    text = (tmp_path / "report" / "evaluation.html").read_text()
    assert "<p>Below the bar: flicker: 0.0 levels, above -1</p>" in text


def test_the_page_says_which_motions_are_taken_for_which(clip_of, tmp_path):
    frames = clip_of("white", "star", "growing")
    captions = ["growing", "growing", "spinning"]
    gallery = Gallery()
    videos = [(frames, f"a white star {motion}") for motion in captions]
    videos.append((np.zeros_like(frames), "a white star spinning"))
    write_report(tmp_path, evaluate(videos, gallery.add), Thresholds(), gallery, {})
    text = (tmp_path / "evaluation.html").read_text()
    _, shown = text.split("said (rows) and seen (columns)</h2>")
    rows = [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)
        for row in re.findall("<tr>(.*?)</tr>", shown)
    ]
    assert rows == [
        ["", "growing", "spinning", "no name"],
        ["growing", "2", "", ""],
        ["spinning", "1", "", "1"],
    ]


def test_the_page_has_each_example_once_as_a_moving_picture(clip_of, tmp_path):
    frames = clip_of("white", "star", "growing")
    gallery = Gallery(fps=4)
    videos = [(frames, "a white star growing")] * 2 + [(frames, "a red star growing")]
    write_report(tmp_path, evaluate(videos, gallery.add), Thresholds(), gallery, {})
    text = (tmp_path / "evaluation.html").read_text()
    wrong, right = text.split(">Wrong</h2>")[1].split("<h2>Right</h2>")
    assert "<figcaption>a red star growing: colour white</figcaption>" in wrong
    assert "<figcaption>a white star growing</figcaption>" in right
    for part in (wrong, right):
        (encoded,) = re.findall('base64,([^"]*)', part)
        moving = Image.open(io.BytesIO(base64.b64decode(encoded)))
        assert (moving.n_frames, moving.size) == (16, (64, 64))
        moving.seek(1)
        moving.load()
        assert moving.info["duration"] == 250


def test_a_folder_in_no_folder_is_refused(evaluation, gallery, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        write_report(tmp_path / "a" / "b", evaluation, Thresholds(), gallery, {})


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
