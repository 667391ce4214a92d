import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from weights_tools.formats import FormatError, open_tensors

NAMES = {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"}


@pytest.fixture
def index(tmp_path):
    """Writes an index and its shards; returns the index's path."""

    def write(weight_map=NAMES, contents=("ac", "b"), folder=tmp_path):
        folder.mkdir(parents=True, exist_ok=True)
        for shard, names in zip(("one", "two"), contents, strict=True):
            arrays = {name: np.full(3, ord(name), "float32") for name in names}
            save_file(arrays, folder / f"{shard}.safetensors")
        path = folder / "model.safetensors.index.json"
        path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        return path

    return write


def refused(path):
    with pytest.raises(FormatError) as error:
        open_tensors(path)
    return str(error.value)


def test_tensors_of_all_shards_are_one_file_in_the_order_of_the_index(index):
    path = index()
    with open_tensors(path) as file:
        assert file.path == path
        assert list(file.specs) == ["a", "b", "c"]
        for name in NAMES:
            assert file.read(name).tolist() == [ord(name)] * 3


def test_shards_of_pytorch_are_read_too(tmp_path):
    import torch

    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model-1.bin")
    path = tmp_path / "pytorch_model.bin.index.json"
    path.write_text(json.dumps({"weight_map": {"a": "pytorch_model-1.bin"}}))
    with open_tensors(path) as file:
        assert file.read("a").tolist() == [1, 1]


def test_a_missing_shard_is_named(index):
    with pytest.raises(FileNotFoundError, match=r"lists 'three\.safetensors'"):
        open_tensors(index({**NAMES, "d": "three.safetensors"}))


@pytest.mark.parametrize(
    ("weight_map", "contents", "reason"),
    [
        ({**NAMES, "d": "two.safetensors"}, ("ac", "b"), "'d': is absent, but model."),
        (
            NAMES,
            ("ac", "bd"),
            "'d': is here and, by model.safetensors.index",
        ),
        (NAMES, ("ac", "ba"), "two.safetensors: tensor 'a': is here and, by"),
        ({"a": 3}, ("ac", "b"), "tensor 'a': file must be a string. Received: 3"),
        ({}, ("a", "b"), "has no weight_map"),
        (["a"], ("a", "b"), "has no weight_map"),
    ],
)
def test_an_index_that_differs_from_its_shards_is_refused(
    index, weight_map, contents, reason
):
    assert reason in refused(index(weight_map, contents))


@pytest.mark.parametrize(
    "shard",
    [
        "../secret.safetensors",
        "sub/../../secret.safetensors",
        "..\\secret.safetensors",
        "C:\\secret.safetensors",
        "{folder}/secret.safetensors",
        "link.safetensors",
        "linked/secret.safetensors",
        "a\0b",
    ],
)
def test_a_shard_outside_the_folder_is_refused_even_if_it_is_there(
    index, tmp_path, shard
):
    save_file({"a": np.ones(3)}, tmp_path / "secret.safetensors")
    shard = shard.format(folder=tmp_path)
    path = index({"a": shard}, folder=tmp_path / "model")
    (path.parent / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    (path.parent / "linked").symlink_to(tmp_path)
    assert "points out of its folder" in refused(path)


def test_an_index_is_no_shard(index, tmp_path):
    path = index({"a": "model.safetensors.index.json"})
    assert "is no safetensors file" in refused(path)


def test_links_into_the_blobs_of_a_hub_cache_are_followed(index, tmp_path):
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / "abc"
    path = index(folder=snapshot / "unet")
    (repository / "blobs").mkdir()
    for file in list(path.parent.iterdir()):
        blob = repository / "blobs" / f"hash-of-{file.name}"
        file.rename(blob)
        file.symlink_to(os.path.relpath(blob, file.parent))
    with open_tensors(path) as file:
        assert file.read("b").tolist() == [ord("b")] * 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"weight_map": {"a": "x", "a": "y"}}', "the name 'a' stands twice"),
        ('{"weight_map"', "is not JSON"),
        ('{"weight_map": ' + "[" * 100_000, "is nested too deeply"),
        ("{" + " " * 2**23, "is larger than"),
    ],
)
def test_a_wrong_index_is_refused_with_the_reason(tmp_path, text, reason):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text)
    assert reason in refused(path)
