import json

import numpy as np
import pytest

from keras_makeavid.data import convert_dataset, open_dataset


def files(folder, kind):
    """Bytes of a folder's files of a kind by name."""
    return {p.name: p.read_bytes() for p in (folder / "data" / kind).iterdir()}


@pytest.fixture
def published(dataset):
    """The dataset with metadata, and without the files of the clip that failed."""
    (dataset / "data" / "videos" / "3.npy").unlink()
    for clip_id in "12":
        path = dataset / "data" / "metadata" / f"{clip_id}.json"
        path.write_text(json.dumps({"caption": f"clip {clip_id}", "duration": 2.5}))
    return dataset


def test_float32_survives_the_way_there_and_back_byte_by_byte(published, tmp_path):
    convert_dataset(published, tmp_path / "ours")
    convert_dataset(tmp_path / "ours", tmp_path / "back", layout="published")
    for kind in ("videos", "prompts"):
        assert files(tmp_path / "back", kind) == files(published, kind)
    there, back = open_dataset(published), open_dataset(tmp_path / "back")
    assert there.ids == back.ids == ["1", "2"]
    for index in range(2):
        assert there.metadata(index) == back.metadata(index)


def test_conversion_is_the_same_each_time(published, tmp_path):
    for name in ("one", "two"):
        convert_dataset(published, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_half_precision_is_what_float32_rounds_to(published, tmp_path):
    convert_dataset(published, tmp_path / "half", half=True)
    half = open_dataset(tmp_path / "half")
    expected = open_dataset(published).latents(1).astype("float16")
    np.testing.assert_array_equal(half.latents(1), expected)


def test_a_damaged_clip_is_named_and_nothing_is_left(published, tmp_path):
    path = published / "data" / "prompts" / "2.npy"
    np.save(path, np.full((1, 7, 8), np.inf, "float32"))
    before = set(tmp_path.iterdir())
    with pytest.raises(ValueError, match="Clip 2: the text states hold"):
        convert_dataset(published, tmp_path / "ours")
    assert set(tmp_path.iterdir()) == before


def test_a_folder_that_holds_files_is_not_written_to(published, tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="ours holds files"):
        convert_dataset(published, tmp_path / "ours")


def test_the_published_layout_has_no_half_precision(published, tmp_path):
    with pytest.raises(ValueError, match="published layout is float32"):
        convert_dataset(published, tmp_path / "out", layout="published", half=True)
