import json

import pytest

from keras_makeavid.data.json_files import read_id_list, read_json, write_json


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "list.json"
    write_json(path, ["1"])
    with pytest.raises(TypeError):
        write_json(path, ["2", object()])
    assert json.loads(path.read_text()) == ["1"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"[1,", b"[" * 100_000, b"\xff"])
def test_a_malformed_file_is_named(tmp_path, content):
    path = tmp_path / "list.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"list\.json is not a JSON file"):
        read_json(path)


def test_a_list_that_is_not_there_is_empty(tmp_path):
    assert read_id_list(tmp_path / "failed_id_list.json") == []
