import pytest

from keras_makeavid.data import (
    PublishedDataset,
    ShardedDataset,
    convert_dataset,
    dataset_facts,
    open_dataset,
)


def test_the_layout_is_told_by_what_is_there(dataset, tmp_path):
    convert_dataset(dataset, tmp_path / "sharded")
    assert isinstance(open_dataset(dataset), PublishedDataset)
    assert isinstance(open_dataset(tmp_path / "sharded"), ShardedDataset)


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
