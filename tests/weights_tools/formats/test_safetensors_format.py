import json

import pytest

from weights_tools.formats import FormatError, TensorSpec, open_tensors

GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def safetensors(header, data=b"\0" * 8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError) as error:
        open_tensors(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def test_header_and_metadata_are_as_written(tmp_path):
    path = tmp_path / "model.safetensors"
    header = {"__metadata__": {"format": "pt"}, "b": GOOD}
    path.write_bytes(safetensors(header))
    with open_tensors(path) as file:
        assert file.metadata == {"format": "pt"}
        assert dict(file.specs) == {"b": TensorSpec((2,), "float32")}


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F4"},
        {"dtype": ["F32"]},
        {"shape": [3]},
        {"shape": [-2]},
        {"shape": [True, 2]},
        {"shape": [2.0]},
        {"shape": 2},
        {"shape": [1] * 65},
        {"shape": [2**40, 2**40]},
        {"shape": [0, 2**40, 2**40], "data_offsets": [0, 0]},
        {"data_offsets": [0, 16]},
        {"data_offsets": [-8, 0]},
        {"data_offsets": [8, 0]},
        {"data_offsets": [0]},
        {"data_offsets": [0, 8.0]},
        {"data_offsets": [0, 10**30]},
        {"shape": [1], "data_offsets": [4, 8]},
    ],
)
def test_a_wrong_entry_is_refused(tmp_path, entry):
    refused(tmp_path, safetensors({"conv.bias": {**GOOD, **entry}}))


@pytest.mark.parametrize(
    "content",
    [
        b"\x10\0\0",
        safetensors({"a": GOOD})[:40],
        safetensors({"a": GOOD}, b"\0" * 7),
        safetensors({"a": GOOD}, b"\0" * 9),
        safetensors({"a": GOOD, "b": GOOD}),
        (2**40).to_bytes(8, "little") + b"{}",
        safetensors(b"[]"),
        safetensors(b"{"),
        safetensors(b'{"\xff": 1}'),
        safetensors(b'{"a": NaN}'),
        safetensors(b'{"a": {}, "a": {}}'),
        safetensors(b'{"a": ' + b"[" * 100_000),
        safetensors(b'{"a": 1' + b"0" * 5000 + b"}"),
        safetensors({"__metadata__": {"a": 1}}, b""),
        safetensors({"__metadata__": "a"}, b""),
    ],
)
def test_a_wrong_header_is_refused(tmp_path, content):
    assert "is no whole safetensors file" in refused(tmp_path, content)
