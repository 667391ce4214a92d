import pytest

from keras_makeavid.data.json_files import write_json
from keras_makeavid.data.published_layout import PublishedLayout


@pytest.fixture
def layout(tmp_path):
    (tmp_path / "data").mkdir()
    return PublishedLayout(tmp_path)


def test_files_lie_where_the_published_datasets_have_them(tmp_path):
    layout = PublishedLayout(tmp_path)
    names = {
        "id_list": layout.id_list,
        "failed_id_list": layout.failed_id_list,
        "video": layout.video("1009163000"),
        "prompt": layout.prompt("1009163000"),
        "metadata": layout.metadata("1009163000"),
    }
    assert {key: str(path.relative_to(tmp_path)) for key, path in names.items()} == {
        "id_list": "data/id_list.json",
        "failed_id_list": "data/failed_id_list.json",
        "video": "data/videos/1009163000.npy",
        "prompt": "data/prompts/1009163000.npy",
        "metadata": "data/metadata/1009163000.json",
    }


def test_ids_keep_their_order(layout):
    write_json(layout.id_list, ["b", "a", "c.1", "d-2_x"])
    assert layout.read_ids() == ["b", "a", "c.1", "d-2_x"]


@pytest.mark.parametrize(
    "clip_id",
    ["../x", "a/b", "a\\b", "..", ".hidden", "", "a b", "é", "a\n", "a" * 201, 7, None],
)
def test_an_id_that_is_no_plain_name_is_refused(layout, clip_id):
    write_json(layout.id_list, ["1", clip_id])
    with pytest.raises(ValueError, match=r"id_list\.json: an id is made of letters"):
        layout.read_ids()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1,", r"id_list\.json is not a JSON file"),
        ("[" * 100_000, r"id_list\.json is not a JSON file"),
        ("\ufffd", r"id_list\.json is not a JSON file"),
        ('{"ids": []}', r"id_list\.json must hold a list of ids. Received: \{'ids'"),
        ('"1"', r"id_list\.json must hold a list of ids"),
    ],
    ids=["cut", "nested", "text", "object", "string"],
)
def test_a_list_that_is_malformed_is_named(layout, content, message):
    layout.id_list.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        layout.read_ids()
