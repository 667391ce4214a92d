import pytest

from keras_makeavid.json_files import parse_json, read_json, write_json


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"shape": [3, 4], "name": "猫"})
    assert read_json(path) == {"shape": [3, 4], "name": "猫"}


def test_a_file_as_windows_writes_it_is_read(tmp_path):
    path = tmp_path / "value.json"
    path.write_bytes(b'\xef\xbb\xbf{"a":\r\n 1}\r\n')
    assert read_json(path) == {"a": 1}


def test_utf_16_is_named(tmp_path):
    path = tmp_path / "value.json"
    path.write_text('{"a": 1}', encoding="utf-16")
    with pytest.raises(ValueError, match=r"value\.json is in UTF-16.* UTF-8"):
        read_json(path)


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a": 1, "a": 2}', "NaN", "[" * 100_000, "[" * 65 + "]" * 65, b"\xff"],
)
def test_what_is_no_json_is_an_error_that_names_its_source(text):
    with pytest.raises(ValueError, match="the header is not JSON"):
        parse_json(text, "the header")


def test_levels_have_a_bound():
    assert parse_json("[" * 63 + "{}" + "]" * 63, "the header")
    with pytest.raises(ValueError, match="nested too deeply, beyond 64 levels"):
        parse_json('{"a":' * 64 + "[]" + "}" * 64, "the header")


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, ["a" * 100])
    with pytest.raises(ValueError, match="larger than 50 bytes"):
        read_json(path, max_bytes=50)


def test_a_number_that_json_has_not_is_not_written(tmp_path):
    path = tmp_path / "value.json"
    with pytest.raises(ValueError):
        write_json(path, float("nan"))
    assert not path.exists()
