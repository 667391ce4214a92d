import json

import pytest

from weights_tools.containers import ContainerError, TensorSpec, open_tensors

GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def safetensors(header, data=b"\0" * 8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ContainerError) as error:
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
    ("entry", "reason"),
    [
        ({"dtype": "F4"}, "dtype must be one of"),
        ({"dtype": ["F32"]}, "dtype must be one of"),
        ({"shape": [3]}, "takes 12 bytes, data_offsets give 8"),
        ({"shape": [-2]}, "shape must be integers from 0"),
        ({"shape": [True, 2]}, "shape must be integers from 0"),
        ({"shape": [2.0]}, "shape must be integers from 0"),
        ({"shape": 2}, "shape must be a list"),
        ({"shape": [1] * 65}, "shape must be a list of at most 64"),
        ({"shape": [2**40, 2**40]}, "beyond what an array can have"),
        ({"shape": [0, 2**40, 2**40], "data_offsets": [0, 0]}, "beyond what an array"),
        ({"data_offsets": [0, 16]}, "do not lie within the 8 bytes"),
        ({"data_offsets": [-8, 0]}, "do not lie within the 8 bytes"),
        ({"data_offsets": [8, 0]}, "do not lie within the 8 bytes"),
        ({"data_offsets": [0]}, "do not lie within the 8 bytes"),
        ({"data_offsets": [0, 8.0]}, "do not lie within the 8 bytes"),
        ({"data_offsets": [0, 10**30]}, "do not lie within the 8 bytes"),
        ({"shape": [1], "data_offsets": [4, 8]}, "overlap or leave a gap"),
        ({"more": 1}, "expected dtype, shape and data_offsets"),
    ],
)
def test_a_wrong_entry_is_refused_with_the_tensor_and_the_reason(
    tmp_path, entry, reason
):
    text = refused(tmp_path, safetensors({"conv.bias": {**GOOD, **entry}}))
    assert text.startswith("tensor 'conv.bias': ")
    assert reason in text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x10\0\0", "is truncated or damaged: the header's length"),
        (safetensors({"a": GOOD})[:40], "is truncated or damaged: the header"),
        (safetensors({"a": GOOD}, b"\0" * 7), "do not lie within the 7 bytes"),
        (safetensors({"a": GOOD}, b"\0" * 9), "1 bytes follow the last tensor"),
        (safetensors({"a": GOOD, "b": GOOD}), "tensor 'b': data starts at byte 0"),
        ((2**40).to_bytes(8, "little") + b"{}", "header of 1099511627776 bytes"),
        (safetensors(b"[]"), "header is not a JSON object"),
        (safetensors(b"{"), "header is not JSON"),
        (safetensors(b'{"\xff": 1}'), "header is not JSON in UTF-8"),
        (safetensors(b'{"a": NaN}'), "NaN is no number"),
        (safetensors(b'{"a": {}, "a": {}}'), "header has the name 'a' twice"),
        (safetensors(b'{"a": ' + b"[" * 100_000), "header is nested too deeply"),
        (safetensors(b'{"a": 1' + b"0" * 5000 + b"}"), "header is not JSON"),
        (safetensors({"__metadata__": {"a": 1}}, b""), "does not map strings"),
        (safetensors({"__metadata__": "a"}, b""), "does not map strings"),
    ],
)
def test_a_wrong_header_is_refused_with_the_reason(tmp_path, content, reason):
    assert reason in refused(tmp_path, content)
