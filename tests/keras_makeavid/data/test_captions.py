import json

import pytest

from keras_makeavid.data import read_captions


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


def test_a_folder_with_a_clips_name_is_no_clip(clips):
    (clips / "frames.mp4").mkdir()
    for name in ("b", "a", "inner/c"):
        (clips / f"{name}.txt").write_text("caption")
    assert len(read_captions(clips)) == 3


def test_text_that_is_not_utf8_is_named(clips):
    (clips / "b.txt").write_bytes("ünï".encode("latin-1"))
    with pytest.raises(ValueError, match=r"b\.txt is not UTF-8"):
        read_captions(clips)
    (clips / "captions.csv").write_bytes("file,caption\nb.mp4,ü".encode("latin-1"))
    with pytest.raises(ValueError, match=r"captions\.csv is malformed: .*utf-8"):
        read_captions(clips)


def test_clips_without_a_caption_are_named(clips):
    (clips / "b.txt").write_text("a bird")
    (clips / "a.txt").write_text("  \n")
    with pytest.raises(ValueError, match=r"2 clips have no caption.*a\.MOV.*c\.webm"):
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
        ("{", "is malformed: line 1: "),
        ("[" * 100_000, "is malformed: line 1: .*recursion"),
        ('{"file": "b.mp4", "caption": " "}', r"1 clips have no caption.*b\.mp4"),
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
    with pytest.raises(FileNotFoundError, match="no folder of clips at .*nowhere"):
        read_captions(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no captions table at .*no\.csv"):
        read_captions(tmp_path, tmp_path / "no.csv")
    with pytest.raises(FileNotFoundError, match="no clips"):
        read_captions(tmp_path)
