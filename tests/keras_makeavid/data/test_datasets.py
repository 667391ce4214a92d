"""Datasets of either layout: opened, made, checked, described and converted."""

import json

import numpy as np
import pytest

from keras_makeavid.data import (
    LatentClip,
    PublishedReader,
    ShardedReader,
    ShardedWriter,
    check_dataset,
    convert_dataset,
    dataset_facts,
    open_dataset,
)

# Opening, and what one holds.


def test_the_layout_is_told_by_what_is_there(dataset, tmp_path):
    convert_dataset(dataset, tmp_path / "sharded")
    assert isinstance(open_dataset(dataset), PublishedReader)
    assert isinstance(open_dataset(tmp_path / "sharded"), ShardedReader)


def test_an_opened_dataset_is_taken_as_it_is(dataset):
    opened = open_dataset(dataset)
    assert open_dataset(opened) is opened


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no latent dataset"):
        open_dataset(tmp_path)


def test_facts_are_sums_and_shapes(dataset, tmp_path):
    convert_dataset(dataset, tmp_path / "sharded", half=True)
    facts = {
        "layout": "published",
        "clips": 2,
        "frames": 15,
        "frames a clip": "6 to 9",
        "latents": "(3, 5, 4)",
        "text states": "(7, 8)",
        "dtype": "float32",
    }
    assert dataset_facts(open_dataset(dataset)) == facts
    assert dataset_facts(open_dataset(tmp_path / "sharded")) == {
        **facts,
        "layout": "sharded",
        "dtype": "float16",
    }


# Making and continuing.


def made(clip_id, value=1.0):
    latents = np.full((4, 2, 3, 4), value, "float32")
    return LatentClip(clip_id, latents, latents[0, 0], {"caption": clip_id})


@pytest.fixture
def folder(tmp_path):
    """Clips "a", "b" and "c"."""
    writer = ShardedWriter(tmp_path / "dataset")
    for clip_id in "abc":
        writer.add(made(clip_id))
    writer.finish()
    return tmp_path / "dataset"


def failed(folder):
    path = open_dataset(folder).failed_id_list
    return json.loads(path.read_text())


def test_what_is_written_is_stored_and_read(folder):
    assert ShardedWriter(folder).stored == {i: {"caption": i} for i in "abc"}
    dataset = open_dataset(folder)
    assert dataset.ids == ["a", "b", "c"]
    np.testing.assert_array_equal(dataset.latents(1), made("b").latents)


def test_a_clip_can_be_replaced_removed_and_added(folder):
    writer = ShardedWriter(folder)
    writer.add(made("a", 2.0))
    writer.remove("b")
    writer.add(made("d"))
    writer.finish()
    dataset = open_dataset(folder)
    assert dataset.ids == ["a", "c", "d"]
    assert dataset.latents(0)[0, 0, 0, 0] == 2.0
    assert check_dataset(folder) == {}


def test_a_whole_clip_that_the_user_leaves_out_stays_stored_and_left_out(folder):
    open_dataset(folder).failed_id_list.write_text('["b"]')
    writer = ShardedWriter(folder)
    assert set(writer.stored) == set("abc")
    writer.keep("b")
    writer.finish()
    assert failed(folder) == ["b"]
    assert open_dataset(folder).ids == ["a", "c"]


def test_a_damaged_clip_that_was_left_out_can_be_written_again(folder):
    writer = ShardedWriter(folder)
    writer.add(made("b", np.nan))
    writer.finish()
    assert list(check_dataset(folder, leave_out=True)) == ["b"]
    writer = ShardedWriter(folder)
    assert set(writer.stored) == set("ac")
    writer.add(made("b"))
    writer.finish()
    assert failed(folder) == []
    assert set(open_dataset(folder).ids) == set("abc")
    assert check_dataset(folder) == {}


def test_a_published_dataset_is_not_continued(dataset):
    with pytest.raises(ValueError, match="dataset of the published layout: convert it"):
        ShardedWriter(dataset)


# Checking.


def damage(dataset, clip_id):
    path = dataset / "data" / "videos" / f"{clip_id}.npy"
    latents = np.load(path)
    latents[2, 0, 0, 0] = np.nan
    np.save(path, latents)


def test_a_whole_dataset_has_no_damage(dataset, tmp_path):
    seen = []
    assert check_dataset(dataset, on_clip=seen.append) == {}
    assert seen == ["1", "2"]
    convert_dataset(dataset, tmp_path / "sharded")
    assert check_dataset(open_dataset(tmp_path / "sharded")) == {}


def test_damaged_clips_are_told_by_id(dataset):
    damage(dataset, "2")
    assert check_dataset(dataset) == {
        "2": "Clip 2: the latents hold numbers that are not finite"
    }
    assert open_dataset(dataset).ids == ["1", "2"]


def test_malformed_metadata_is_damage(dataset):
    (dataset / "data" / "metadata" / "1.json").write_text("{")
    assert list(check_dataset(dataset)) == ["1"]


def test_damaged_clips_can_be_left_out_from_then_on(dataset):
    damage(dataset, "2")
    assert list(check_dataset(dataset, leave_out=True)) == ["2"]
    failed = dataset / "data" / "failed_id_list.json"
    assert json.loads(failed.read_text()) == ["3", "2"]
    assert open_dataset(dataset).ids == ["1"]
    assert check_dataset(dataset) == {}


@pytest.mark.parametrize("byte", [100, -1])
def test_any_changed_byte_of_a_shard_is_found_and_can_be_left_out(
    dataset, tmp_path, byte
):
    folder = tmp_path / "sharded"
    convert_dataset(dataset, folder)
    path = folder / "clips-00000.safetensors"
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[:8], "little")
    content[8 + size + byte if byte > 0 else byte] ^= 1
    path.write_bytes(content)
    damaged = check_dataset(folder, leave_out=True)
    assert len(damaged) == 1
    assert set(open_dataset(folder).ids) == {"1", "2"} - set(damaged)


@pytest.mark.parametrize("layout", ["published", "sharded"])
def test_clips_that_cannot_even_be_opened_are_told_and_left_out(
    dataset, tmp_path, layout
):
    folder = dataset
    if layout == "sharded":
        folder = tmp_path / "sharded"
        convert_dataset(dataset, folder)
        index = json.loads((folder / "index.json").read_text())
        index["clips"][0]["shard"] = "lost.safetensors"
        (folder / "index.json").write_text(json.dumps(index))
    else:
        (dataset / "data" / "prompts" / "1.npy").unlink()
    with pytest.raises(ValueError, match=r"1 clips are damaged.*dataset check --leave"):
        open_dataset(folder)
    assert list(check_dataset(folder, leave_out=True)) == ["1"]
    assert open_dataset(folder).ids == ["2"]


# Converting.


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


def test_a_layout_that_is_unknown_is_refused(published, tmp_path):
    with pytest.raises(ValueError, match="layout must be one of .* Received: 'zip'"):
        convert_dataset(published, tmp_path / "out", "zip")


def test_the_published_layout_has_no_half_precision(published, tmp_path):
    with pytest.raises(ValueError, match="published layout is float32"):
        convert_dataset(published, tmp_path / "out", layout="published", half=True)
