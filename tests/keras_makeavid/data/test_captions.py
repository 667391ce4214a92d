import json

import pytest

from keras_makeavid.data import read_captions
from keras_makeavid.data.captions import PICTURE_SUFFIXES, find_files


@pytest.fixture
def clips(tmp_path):
    (tmp_path / "inner").mkdir()
    for name in ("b.mp4", "a.MOV", "inner/c.webm", "notes.md"):
        (tmp_path / name).touch()
    return tmp_path


def test_a_text_file_beside_each_clip_is_its_caption(clips):
    for name, caption in (("b", "a bird\n"), ("a", "café 🎬"), ("inner/c", "a cat")):
        (clips / f"{name}.txt").write_text(caption, encoding="utf-8")
    assert read_captions(clips) == {
        clips / "a.MOV": "café 🎬",
        clips / "b.mp4": "a bird",
        clips / "inner" / "c.webm": "a cat",
    }


def test_a_byte_order_mark_is_no_part_of_a_caption_or_a_column(clips):
    (clips / "captions.csv").write_text("file,caption\nb.mp4,ünï\n", "utf-8-sig")
    assert read_captions(clips) == {clips / "b.mp4": "ünï"}
    (clips / "captions.csv").unlink()
    for name in ("b", "a", "inner/c"):
        (clips / f"{name}.txt").write_text("ünï", "utf-8-sig")
    assert set(read_captions(clips).values()) == {"ünï"}


def test_text_in_utf16_is_named_with_its_encoding(clips):
    (clips / "captions.csv").write_text("file,caption\nb.mp4,x\n", "utf-16")
    with pytest.raises(
        ValueError, match=r"captions\.csv is in UTF-16.* Expected UTF-8"
    ):
        read_captions(clips)


@pytest.mark.parametrize(
    "content",
    [
        "file,caption\r\nb.mp4,a bird\r\ninner\\c.webm,a cat\r\n",
        "file,caption\rb.mp4,a bird\rinner/c.webm,a cat\r",
        "file;caption\nb.mp4;a bird\ninner/c.webm;a cat\n",
        "file\tcaption\nb.mp4\ta bird\ninner/c.webm\ta cat\n",
        "File, Caption ,,\nb.mp4,a bird,,\n,\n , ,,,\n\ninner/c.webm,a cat,,,\n",
        "file_name,text\nb.mp4,a bird\n./inner/c.webm,a cat\n",
        "file , caption\n b.mp4 , a bird\ninner/c.webm ,a cat \n",
        "\ufefffile,caption\nb.mp4,a bird\ninner/c.webm,a cat\n",
    ],
    ids=[
        *("Windows", "old Mac", "semicolons", "tabs", "empty rows", "names of the hub"),
        *("spaces", "a mark"),
    ],
)
def test_a_table_is_taken_as_spreadsheets_write_it(clips, content):
    (clips / "captions.csv").write_bytes(content.encode())
    assert read_captions(clips) == {
        clips / "b.mp4": "a bird",
        clips / "inner" / "c.webm": "a cat",
    }


@pytest.mark.parametrize(
    "name", ["captions.CSV", "captions.tsv", "metadata.tsv", "Metadata.csv"]
)
def test_tables_of_every_suffix_are_found_and_may_be_given(clips, name):
    rows = (("file_name", "text", "a,b;c"), ("b.mp4", "a bird", "1"))
    mark = "\t" if "tsv" in name else ";"
    (clips / name).write_text("\n".join(mark.join(row) for row in rows))
    for table in (None, clips / name):
        assert read_captions(clips, table) == {clips / "b.mp4": "a bird"}


@pytest.mark.parametrize("content", ["", "file,caption\n", "file,caption\n,,\n"])
def test_a_table_without_rows_is_named(clips, content):
    (clips / "captions.csv").write_text(content)
    with pytest.raises(ValueError, match=r"captions\.csv must have a row for each"):
        read_captions(clips)


def test_metadata_as_the_hub_has_them_are_a_table(clips):
    rows = [{"file_name": "inner/c.webm", "text": "a cat", "fps": 8}]
    table = clips / "metadata.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    assert read_captions(clips) == {clips / "inner" / "c.webm": "a cat"}


def test_metadata_of_something_else_are_no_table(clips):
    (clips / "metadata.jsonl").write_text('{"name": "b", "duration": 3}')
    for name in ("b", "a", "inner/c"):
        (clips / f"{name}.txt").write_text("from text")
    assert len(read_captions(clips)) == 3


@pytest.mark.parametrize("name", ["captions", "metadata"])
def test_two_captions_tables_are_one_too_many(clips, name):
    (clips / f"{name}.csv").write_text("file,caption\nb.mp4,x\n")
    (clips / f"{name}.jsonl").write_text('{"file": "b.mp4", "caption": "x"}\n')
    with pytest.raises(ValueError, match="one captions table.*csv.*jsonl"):
        read_captions(clips)


@pytest.mark.parametrize("again", ["b.mp4", "./b.mp4", "inner/../b.mp4", ".\\b.mp4"])
def test_a_file_named_twice_is_an_error_that_names_both_lines(clips, again):
    rows = f"file,caption\nb.mp4,one\n{again},two\n"
    (clips / "captions.csv").write_text(rows)
    with pytest.raises(ValueError, match="line 3: .*one line only.* in line 2 too"):
        read_captions(clips)


def test_capitals_in_suffixes_mean_nothing(clips):
    for name in ("b.TXT", "a.txt", "inner/c.Txt"):
        (clips / name).write_text("x")
    assert len(read_captions(clips)) == 3


def test_hidden_and_system_files_are_passed_over_and_told(clips):
    for name in ("b", "a", "inner/c"):
        (clips / f"{name}.txt").write_text("x")
    hidden = [
        "._b.mp4",
        ".hidden.mov",
        "~$b.mp4",
        "inner/._c.webm",
        ".cache/x.mp4",
        "__MACOSX/b.mp4",
        "$Recycle.Bin/old.avi",
        "@eaDir/b.mp4",
        ".ipynb_checkpoints/b-checkpoint.mp4",
    ]
    for name in hidden:
        (clips / name).parent.mkdir(exist_ok=True)
        (clips / name).write_bytes(b"\0\5\x16\7")
    (clips / ".DS_Store").touch()
    found = []
    assert len(read_captions(clips, hidden=found)) == 3
    assert found == sorted(clips / name for name in hidden)


def test_pictures_are_found_by_their_suffixes(clips):
    for name in ("x.png", "y.JPG", "._x.png"):
        (clips / name).touch()
        (clips / name).with_suffix(".txt").write_text(name)
    found = [clips / "x.png", clips / "y.JPG"]
    assert list(read_captions(clips, suffixes=PICTURE_SUFFIXES)) == found
    assert find_files(clips, PICTURE_SUFFIXES) == found


def test_a_folder_with_a_clips_name_is_no_clip(clips):
    (clips / "frames.mp4").mkdir()
    for name in ("b", "a", "inner/c"):
        (clips / f"{name}.txt").write_text("caption")
    assert len(read_captions(clips)) == 3


def test_text_that_is_not_utf8_is_named(clips):
    (clips / "b.txt").write_bytes("ünï".encode("latin-1"))
    with pytest.raises(ValueError, match=r"b\.txt is not in UTF-8"):
        read_captions(clips)
    (clips / "captions.csv").write_bytes("file,caption\nb.mp4,ü".encode("latin-1"))
    with pytest.raises(ValueError, match=r"captions\.csv is not in UTF-8"):
        read_captions(clips)


def test_clips_without_a_caption_are_named(clips):
    (clips / "b.txt").write_text("a bird")
    (clips / "a.txt").write_text("  \n")
    with pytest.raises(ValueError, match=r"2 files have no caption.*a\.MOV.*c\.webm"):
        read_captions(clips)


def test_a_csv_in_the_folder_is_found(clips):
    (clips / "captions.csv").write_text('file,caption\nb.mp4,"a bird, a bee"\n')
    assert read_captions(clips) == {clips / "b.mp4": "a bird, a bee"}


def test_a_table_may_be_given(clips, tmp_path):
    table = tmp_path / "table.jsonl"
    rows = [{"file": "inner/c.webm", "caption": "a cat", "more": 1}]
    table.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert read_captions(clips, table) == {clips / "inner" / "c.webm": "a cat"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file": "../b.mp4", "caption": "x"}', "line 1: '../b.mp4' is outside"),
        ('{"file": "/etc/passwd", "caption": "x"}', "line 1: '/etc/passwd' is outside"),
        ('{"file": "none.mp4", "caption": "x"}', "line 1: there is no clip"),
        ('{"file": "b.mp4"}', "line 1: expected the strings 'file' and 'caption'"),
        ('{"file": "b.mp4", "caption": 3}', "line 1: expected the strings"),
        ("[1, 2]", "line 1: expected the strings"),
        ("{", "line 1 is not JSON"),
        ("[" * 100_000, "line 1 is not JSON: it is nested too deeply"),
        ('{"file": "b.mp4", "caption": " "}', r"1 files have no caption.*b\.mp4"),
    ],
)
def test_a_bad_line_of_a_table_is_named(clips, line, message):
    table = clips / "captions.jsonl"
    table.write_text(line)
    with pytest.raises(ValueError, match=message):
        read_captions(clips)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("b.mp4,a bird, a bee", "line 2: expected .* 'a bird'.* a bee"),
        ("b.mp4", "line 2: expected the strings"),
        ('b.mp4,"a bird', "is malformed: unexpected end of data"),
        ("../b.mp4,a bird", "line 2: '../b.mp4' is outside"),
        ("b.mp4," + 200_000 * "a", "is malformed: field larger than"),
    ],
    ids=["unquoted comma", "missing", "open quote", "outside", "huge"],
)
def test_a_bad_line_of_a_csv_is_named(clips, lines, message):
    (clips / "captions.csv").write_text(f"file,caption\n{lines}\n")
    with pytest.raises(ValueError, match=message):
        read_captions(clips)


def test_a_link_to_a_clip_outside_of_the_folder_is_refused(clips, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "x.mp4"
    outside.touch()
    (clips / "link.mp4").symlink_to(outside)
    (clips / "captions.csv").write_text("file,caption\nlink.mp4,x\n")
    with pytest.raises(ValueError, match=r"'link\.mp4' is outside of"):
        read_captions(clips)


def test_a_table_without_the_columns_is_refused(clips):
    (clips / "captions.csv").write_text("name,text\nb.mp4,a bird\n")
    with pytest.raises(ValueError, match="expected the strings 'file' and 'caption'"):
        read_captions(clips)


def test_another_kind_of_table_is_refused(clips):
    (clips / "table.xlsx").touch()
    with pytest.raises(ValueError, match=r"\.csv.*\.jsonl"):
        read_captions(clips, clips / "table.xlsx")


def test_missing_folders_tables_and_clips_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        read_captions(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no captions table at .*no\.csv"):
        read_captions(tmp_path, tmp_path / "no.csv")
    with pytest.raises(FileNotFoundError, match="no clips"):
        read_captions(tmp_path)
