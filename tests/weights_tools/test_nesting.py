"""What is nested in a file has a bound, in every format; few levels meet none."""

import io
import json
import struct
import zipfile

import h5py
import msgpack
import numpy as np
import pytest

import weights_tools

DEEP = 3000


def told(path):
    """What `inspect` says of a file, which here is never a whole model."""
    with pytest.raises((ValueError, KeyError)) as caught:
        weights_tools.inspect(path)
    return str(caught.value)


def hdf5(path, outer, levels):
    """A file of one dataset, whose datatype is an integer inside `levels` others."""
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(3)
        address = h5py.h5o.get_info(file["a"].id).addr
    content = bytearray(path.read_bytes())
    integer = struct.pack("<BBBBIHH", 0x10, 8, 0, 0, 8, 0, 64)
    at = content.index(integer)
    # In place of the datatype, the header goes on at the end of the file.
    message = outer * levels + integer
    message += b"\0" * (-len(message) % 8)
    rest = struct.pack("<HHB3x", 3, len(message), 0) + message
    jump = struct.pack("<HHB3xQQ", 0x10, 16, 0, len(content), len(rest))
    content[at - 8 : at - 8 + len(jump)] = jump
    (count,) = struct.unpack_from("<H", content, address + 2)
    struct.pack_into("<H", content, address + 2, count + 1)
    end = struct.pack("<Q", len(content))
    assert content[40:48] == end
    content += rest
    content[40:48] = struct.pack("<Q", len(content))
    path.write_bytes(content)


ENUMERATION = struct.pack("<BBBBI", 0x18, 0, 0, 0, 8)
SEQUENCE = struct.pack("<BBBBI", 0x19, 0, 0, 0, 8)
COMPOUND = struct.pack("<BBBBI", 0x36, 1, 0, 0, 8) + b"a\0\0"


@pytest.mark.parametrize("outer", [ENUMERATION, SEQUENCE, COMPOUND])
def test_datatypes_of_hdf5(tmp_path, outer):
    path = tmp_path / "model.h5"
    hdf5(path, outer, 0)
    assert "'a'" not in told(path)
    hdf5(path, outer, 1)
    assert "'a': has a dtype that no weight has" in told(path)
    hdf5(path, outer, DEEP)
    assert any(word in told(path) for word in ("nest", "maximum recursion depth"))


def test_groups_of_hdf5(tmp_path):
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        group = file
        for _ in range(DEEP):
            group = group.create_group("a")
    assert "groups nest deeper than 64" in told(path)


@pytest.mark.parametrize(
    "levels",
    [b"\x81\xa1a", b"\x81\xa1a" + b"\x91" * 9],
    ids=["maps", "lists"],
)
def test_msgpack(tmp_path, levels):
    path = tmp_path / "model.msgpack"
    path.write_bytes(levels * 3 + msgpack.packb(None))
    assert "nest" not in told(path)
    path.write_bytes(levels * DEEP + msgpack.packb(None))
    # Lists hold no arrays, and are skipped as far as any object of Flax goes.
    found = told(path)
    assert "groups nest deeper than 64" in found or "damaged at byte 3" in found


PICKLES = {
    "dicts": lambda n: b"}" + b"X\x01\0\0\0a}" * n + b"s" * n,
    "lists": lambda n: b"]" * (n + 1) + b"a" * n,
    "tuples": lambda n: b"N" + b"\x85" * n,
}


@pytest.mark.parametrize("kind", PICKLES)
def test_pickles_of_pytorch(tmp_path, kind):
    path = tmp_path / "model.ckpt"

    def write(levels):
        pickled = b"\x80\x02}X\x01\0\0\0s" + PICKLES[kind](levels) + b"s."
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("archive/data.pkl", pickled)
            archive.writestr("archive/version", "3\n")
        path.write_bytes(content.getvalue())

    write(3)
    assert "nest" not in told(path)
    write(100 * DEEP)
    assert "its pickle nests too deeply" in told(path)


def deep_json(levels):
    return '{"a":' * levels + "1" + "}" * levels


def test_headers_of_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    header = deep_json(DEEP).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert "recursion limit exceeded" in told(path)


def test_indices_of_shards(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(deep_json(DEEP))
    assert "is nested too deeply" in told(path)


def test_configurations(pipeline, tmp_path):
    config = json.loads((pipeline / "unet" / "config.json").read_text())
    path = tmp_path / "config.json"
    weights = "diffusion_pytorch_model.safetensors"
    (tmp_path / weights).symlink_to(pipeline / "unet" / weights)
    path.write_text(json.dumps({**config, "_extra": json.loads(deep_json(3))}))
    weights_tools.inspect(tmp_path)
    path.write_text(json.dumps(config)[:-1] + f', "_extra": {deep_json(DEEP)}}}')
    assert "config.json is not JSON: it is nested too deeply" in told(tmp_path)
