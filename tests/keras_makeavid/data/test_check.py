import json

import numpy as np
import pytest

from keras_makeavid.data import check_dataset, convert_dataset, open_dataset


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
