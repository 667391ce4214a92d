import numpy as np
import pytest

from weights_tools.formats import FormatError, TensorSpec, open_tensors


def names_there(path, arrays):
    dotted = path.suffix in (".ckpt", ".bin")
    return {name.replace("/", ".") if dotted else name: name for name in arrays}


def test_a_file_of_each_format_gives_every_tensor_byte_for_byte(real_file, arrays):
    with open_tensors(real_file) as file:
        for there, name in names_there(real_file, arrays).items():
            array = arrays[name]
            assert file.specs[there] == TensorSpec(array.shape, array.dtype.name)
            read = file.read(there)
            assert (read.shape, read.dtype) == (array.shape, array.dtype)
            assert read.tobytes() == array.tobytes()


def test_the_format_is_told_by_the_content_whatever_the_suffix(real_file, arrays):
    there = names_there(real_file, arrays)
    renamed = real_file.with_name("weights")
    real_file.rename(renamed)
    with open_tensors(renamed) as file:
        assert set(there) <= set(file.specs)


def test_arrays_cannot_be_written_to_and_outlive_the_file(real_file):
    with open_tensors(real_file) as file:
        read = {name: file.read(name) for name in file.specs}
        copies = {name: array.copy() for name, array in read.items()}
    for name, array in read.items():
        assert not array.flags.writeable
        assert array.tobytes() == copies[name].tobytes()


def test_a_closed_file_reads_no_more(real_file):
    file = open_tensors(real_file)
    name = next(name for name, spec in file.specs.items() if spec.nbytes)
    file.close()
    with pytest.raises(FormatError, match="is closed"):
        file.read(name)


def test_an_unknown_tensor_is_named(real_file):
    with (
        open_tensors(real_file) as file,
        pytest.raises(FormatError, match="tensor 'banana': there is no such tensor"),
    ):
        file.read("banana")


def test_nothing_a_folder_and_an_empty_file_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.h5"):
        open_tensors(tmp_path / "no.h5")
    with pytest.raises(FormatError, match="is a folder"):
        open_tensors(tmp_path)
    (tmp_path / "empty.h5").touch()
    with pytest.raises(FormatError, match=r"empty\.h5: is empty"):
        open_tensors(tmp_path / "empty.h5")


@pytest.mark.parametrize("content", [b"hello", b"\x00" * 100])
def test_what_is_no_container_is_shown_by_its_beginning(tmp_path, content):
    path = tmp_path / "model.dat"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"is no .* It begins with b'"):
        open_tensors(path)


@pytest.mark.parametrize("suffix", ["safetensors", "h5", "bin", "msgpack", "json"])
def test_a_wrong_content_is_refused_by_the_format_of_the_suffix(tmp_path, suffix):
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(b"\x97\xfe" * 100)
    with pytest.raises(FormatError, match=path.name):
        open_tensors(path)


@pytest.mark.parametrize(
    "suffix", ["safetensors", "ckpt", "h5", "bin", "pt", "pth", "msgpack", "any"]
)
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid 12\n",
            "git lfs pull",
        ),
        (b"/annex/objects/SHA256E-s12--ab.ckpt\n", "git annex get"),
        (b"../../.git/annex/objects/k/9/SHA256E-s12--ab.ckpt", "git annex get"),
        (b"\xef\xbb\xbf\n<!doctype html><title>Not found</title>", "page of a website"),
        (b'<?xml version="1.0"?><Error>AccessDenied</Error>', "page of a website"),
        (b'{"error": "Repository not found"}', "page of a website"),
        (b"Invalid username or password.", "but text.* begins with b'Invalid user"),
        ("请先登录以下载".encode(), "but text: download it again"),
        ("<html>".encode("utf-16"), "but text: download it again"),
        (b"{}", "no weight_map"),
        (b"\x1f\x8b\x08" + bytes(60), "is a packed file: unpack it"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(60), "is a packed file: unpack it"),
        (b"Rar!\x1a\x07" + bytes(60), "is a packed file: unpack it"),
        (b"model.ckpt".ljust(257, b"\0") + b"ustar", "is a packed file: unpack it"),
    ],
)
def test_text_in_place_of_a_binary_file_is_named(tmp_path, suffix, content, what):
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=what):
        open_tensors(path)


def test_a_link_to_what_was_not_downloaded_is_named(tmp_path):
    path = tmp_path / "model.ckpt"
    path.symlink_to(".git/annex/objects/SHA256E-s12--ab.ckpt")
    with pytest.raises(FileNotFoundError, match=r"annex/objects/.* is a link to"):
        open_tensors(path)


def test_an_error_is_short_whatever_a_file_calls_its_tensors(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "model.safetensors"
    save_file({"n" * 100_000 + "\x1b": np.ones(3)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError) as error:
        open_tensors(path)
    assert len(str(error.value)) < 1000
    assert "\x1b" not in str(error.value)
