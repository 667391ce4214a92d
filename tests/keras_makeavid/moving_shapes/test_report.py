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
    evaluate,
    markdown_table,
    write_report,
)


@pytest.fixture(scope="module")
def gallery():
    return Gallery()


@pytest.fixture(scope="module")
def evaluation(gallery):
    clips = MotionClips(seed=1)
    videos = [clips.clip(index) for index in range(8)]
    return evaluate([GeneratedVideo(*v, 5, v[0][0]) for v in videos], gallery.add)


def test_the_table_has_rates_bars_and_the_control(evaluation):
    lines = markdown_table(evaluation).splitlines()
    assert lines[0] == "| | seen | held-out | shuffled captions |"
    assert lines[2] == "| videos | 8 | 0 | 8 |"
    assert lines[3].startswith("| colour | 100.0% (at least 98%) | none | ")
    assert lines[-1] == "| first frame to hint, dB | 100.0 | none |  |"
    assert {line.count("|") for line in lines} == {5}


def test_without_hints_the_table_does_not_speak_of_them():
    evaluation = evaluate([MotionClips(seed=1).clip(0)])
    assert "hint" not in markdown_table(evaluation)


def test_a_report_is_a_table_and_data(evaluation, gallery, tmp_path):
    folder = tmp_path / "report"
    settings = {"preset": "true clips", "steps": 20}
    for _ in range(2):
        paths = write_report(folder, evaluation, gallery, settings)
    assert sorted(folder.iterdir()) == sorted(paths)
    assert [path.name for path in paths] == [
        "evaluation.json",
        "evaluation.html",
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


def test_a_report_names_what_is_below_the_bar(clip_of, tmp_path):
    wrong = evaluate([(clip_of("white", "star", "growing"), "a red star growing")])
    write_report(tmp_path / "report", wrong, Gallery(), {})
    text = (tmp_path / "report" / "evaluation.html").read_text()
    assert "<p>Below the bar: colour of held-out triples: 0.0%, below 95%</p>" in text


def test_the_page_says_which_motions_are_taken_for_which(clip_of, tmp_path):
    frames = clip_of("white", "star", "growing")
    captions = ["growing", "growing", "spinning"]
    gallery = Gallery()
    videos = [(frames, f"a white star {motion}") for motion in captions]
    videos.append((np.zeros_like(frames), "a white star spinning"))
    write_report(tmp_path, evaluate(videos, gallery.add), gallery, {})
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
    write_report(tmp_path, evaluate(videos, gallery.add), gallery, {})
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
        write_report(tmp_path / "a" / "b", evaluation, gallery, {})
