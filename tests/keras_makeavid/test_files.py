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
    with pytest.raises(ValueError, match=rf"text\.txt is in UTF-{bits}, .* UTF-8"):
        read_text(path)


def test_text_in_an_old_encoding_is_named(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(ValueError, match=r"text\.txt is not in UTF-8: .*position 3"):
        read_text(path)
