import os
import signal
import subprocess
import sys

import pytest

from keras_makeavid.files import (
    existing_file,
    folder_written_aside,
    read_text,
    written_aside,
)
from keras_makeavid.json_files import read_object
from keras_makeavid.recipes import load_recipe
from keras_makeavid.video import probe, read_image, read_video


def test_a_failure_keeps_the_old_file_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), written_aside(path) as aside:
        assert aside.parent == tmp_path
        aside.write_text("half")
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_keeps_the_old_folder_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "frames"
    path.mkdir()
    (path / "old").write_text("old")
    with (
        pytest.raises(RuntimeError, match="half way"),
        folder_written_aside(path) as aside,
    ):
        (aside / "new").write_text("half")
        raise RuntimeError("half way")
    assert [entry.name for entry in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_folder_is_put_back_if_the_new_one_cannot_take_its_place(tmp_path):
    path = tmp_path / "frames"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(FileNotFoundError), folder_written_aside(path) as aside:
        aside.rmdir()
    assert [entry.name for entry in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="kills itself by a signal")
def test_what_a_kill_between_the_renames_took_away_is_put_back(tmp_path):
    path = tmp_path / "frames"
    path.mkdir()
    (path / "old").write_text("old")
    code = f"""
import os, signal
from keras_makeavid import files

rename = os.rename
def killed(first, second):
    rename(first, second)
    os.kill(os.getpid(), signal.SIGKILL)

os.rename = killed
with files.folder_written_aside({str(path)!r}) as aside:
    (aside / "new").write_text("new")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    with (
        pytest.raises(RuntimeError, match="half way"),
        folder_written_aside(path, replaces="old"),
    ):
        raise RuntimeError("half way")
    assert (path / "old").read_text() == "old"


def test_success_replaces_a_folder_whole(tmp_path):
    path = tmp_path / "frames"
    path.mkdir()
    (path / "old").write_text("old")
    with folder_written_aside(path) as aside:
        (aside / "new").write_text("new")
    assert [entry.name for entry in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_written_files_have_ordinary_permissions(tmp_path):
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    with written_aside(tmp_path / "file") as aside:
        aside.write_text("new")
    assert (tmp_path / "file").stat().st_mode == ordinary.stat().st_mode


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not an ordinary file"):
        existing_file(tmp_path / "pipe")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["plain", "Windows", "Mac"])
@pytest.mark.parametrize("mark", ["", "\ufeff", "\ufeff\ufeff"])
def test_marks_and_line_ends_of_every_system_are_taken(tmp_path, end, mark):
    path = tmp_path / "text.txt"
    path.write_bytes(f"{mark}caf\u00e9{end}{end}two{end}".encode())
    assert read_text(path) == "caf\u00e9\n\ntwo\n"


@pytest.mark.parametrize("text", ["plain", "caf\u00e9", "\u732b"])
@pytest.mark.parametrize("ends", ["", "-le", "-be"])
@pytest.mark.parametrize("bits", [16, 32])
def test_wide_text_is_named_with_and_without_a_mark(tmp_path, text, ends, bits):
    path = tmp_path / "text.txt"
    path.write_bytes(f"{text} and more\n".encode(f"utf-{bits}{ends}"))
    with pytest.raises(ValueError, match=r"text\.txt is in UTF-16 or UTF-32, .* UTF-8"):
        read_text(path)


def test_text_in_an_old_encoding_is_named(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(ValueError, match=r"text\.txt is not in UTF-8: .*position 3"):
        read_text(path)


LEFT = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "git lfs pull",
    b"/annex/objects/SHA256E-s12--ab.bin\n": "git annex get",
    b"\xef\xbb\xbf<!DOCTYPE html>\n<title>Log in</title>": "download it again",
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>': "download it again",
}
READERS = {
    "captions.txt": read_text,
    "config.json": read_object,
    "recipe.toml": load_recipe,
    "clip.mp4": probe,
    "clip.gif": read_video,
    "hint.png": read_image,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(("content", "advice"), LEFT.items(), ids=LEFT.values())
def test_what_a_download_left_in_place_of_a_file_is_named(
    tmp_path, name, content, advice
):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is a p.*{advice}"):
        READERS[name](path)


def test_a_caption_may_begin_as_a_page_or_a_pointer_does(tmp_path):
    for text in ("<cat-toy> on a sofa", "<head> of a cat", "annex/objects", "{}"):
        (tmp_path / "a.txt").write_text(text)
        assert read_text(tmp_path / "a.txt") == text


def test_a_link_is_named_with_what_it_leads_to(tmp_path):
    (tmp_path / "clip.mp4").symlink_to("gone.mp4")
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4, which .* is a link to"):
        probe(tmp_path / "clip.mp4")
