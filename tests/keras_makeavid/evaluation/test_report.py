import json

import pytest

from keras_makeavid.data.motions import MotionClips
from keras_makeavid.evaluation import (
    Gallery,
    GeneratedVideo,
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
        "evaluation.md",
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
    text = (folder / "evaluation.md").read_text()
    assert markdown_table(evaluation, Thresholds()) in text
    assert "- steps: 20" in text
    assert "All reach the bar." in text
    assert read_image(folder / "gallery.png").shape == gallery.picture().shape


def test_a_report_names_what_is_below_the_bar(evaluation, gallery, tmp_path):
    bar = Thresholds(flicker=-1)
    write_report(tmp_path / "report", evaluation, bar, gallery, {})
    text = (tmp_path / "report" / "evaluation.md").read_text()
    assert "Below the bar:\n\n- flicker: 0.0 levels, above -1" in text


def test_a_folder_in_no_folder_is_refused(evaluation, gallery, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        write_report(tmp_path / "a" / "b", evaluation, Thresholds(), gallery, {})
