"""Files of every format, made by the libraries that they come from."""

import json

import ml_dtypes
import numpy as np
import pytest


@pytest.fixture
def arrays():
    """Small tensors of many kinds, in nested groups."""
    random = np.random.default_rng(0)
    return {
        "down/conv/kernel": random.normal(size=(3, 4)).astype("float32"),
        "down/conv/bias": np.arange(3, dtype="float16"),
        "count": np.array(7, "int64"),
        "half": random.normal(size=(2, 3)).astype(ml_dtypes.bfloat16),
        "mask": np.array([True, False]),
        "empty": np.zeros((0, 2), "float32"),
    }


def as_torch(arrays):
    import torch

    def tensor(array):
        if array.dtype == ml_dtypes.bfloat16:
            return torch.tensor(array.view("int16")).view(torch.bfloat16)
        return torch.tensor(array)

    return {name.replace("/", "."): tensor(array) for name, array in arrays.items()}


def nested(arrays):
    tree = {}
    for name, array in arrays.items():
        *groups, last = name.split("/")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = array
    return tree


def write_safetensors(path, arrays):
    from safetensors.numpy import save_file

    save_file(arrays, path, metadata={"format": "pt"})


def write_torch(path, arrays):
    import torch

    tensors = as_torch(arrays)
    tensors["transposed"] = tensors["down.conv.kernel"].T
    checkpoint = {"state_dict": tensors, "epoch": 1, "lr": [0.5, None, {"a": b"b"}]}
    torch.save(checkpoint, path, _use_new_zipfile_serialization=path.suffix == ".ckpt")


def write_flax(path, arrays):
    from flax import serialization

    path.write_bytes(serialization.msgpack_serialize({**nested(arrays), "step": 3}))


def write_hdf5(path, arrays):
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["backend"] = "torch"
        file.attrs["layer_names"] = np.array([b"down", b"up"])
        for name, array in arrays.items():
            file[name] = array
        file["half"].attrs["dtype"] = "bfloat16"
        for index in range(12):
            file[f"layers/layer_{index}/vars/0"] = np.ones(2, "float32")


def write_index(path, arrays):
    names = list(arrays)
    shards = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for shard, members in shards.items():
        write_safetensors(path.with_name(shard), {n: arrays[n] for n in members})
    weight_map = {name: s for s, members in shards.items() for name in members}
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


WRITERS = {
    "model.safetensors": write_safetensors,
    "model.ckpt": write_torch,
    "model.bin": write_torch,
    "model.msgpack": write_flax,
    "model.h5": write_hdf5,
    "model.safetensors.index.json": write_index,
}


@pytest.fixture(params=list(WRITERS))
def real_file(request, tmp_path, arrays):
    """The path of a file of each format; PyTorch's old one ends in `.bin`."""
    path = tmp_path / request.param
    WRITERS[request.param](path, arrays)
    return path
