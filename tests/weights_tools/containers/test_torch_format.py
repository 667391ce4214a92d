import collections
import io
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from weights_tools.containers import ContainerError, TensorSpec, open_tensors

OLD = {"_use_new_zipfile_serialization": False}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.ckpt"


@pytest.fixture(params=[{}, OLD], ids=["zip", "old"])
def save(request, path):
    return lambda content: torch.save(content, path, **request.param)


def refused(path):
    with pytest.raises(ContainerError) as error:
        open_tensors(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


DTYPES = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64"


@pytest.mark.parametrize("dtype", DTYPES.split())
def test_every_dtype_is_read_bit_for_bit(path, save, dtype):
    tensor = torch.arange(-3, 3).to(getattr(torch, dtype)).reshape(2, 3)
    save({"a": tensor})
    with open_tensors(path) as file:
        assert file.specs["a"] == TensorSpec((2, 3), dtype)
        assert file.read("a").tobytes() == bytes(tensor.untyped_storage())


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "uint16", "uint64"])
def test_dtypes_without_a_storage_of_their_own_are_read(path, dtype):
    tensor = torch.arange(6).to(getattr(torch, dtype))
    torch.save({"a": tensor}, path)
    with open_tensors(path) as file:
        assert file.specs["a"].dtype == dtype
        assert file.read("a").tobytes() == bytes(tensor.untyped_storage())


def test_views_of_one_storage_are_read_as_what_they_show(path, save):
    base = torch.arange(24.0).reshape(2, 3, 4)
    views = {
        "base": base,
        "transposed": base.permute(2, 0, 1),
        "slice": base[1:, 1:, ::2],
        "offset": base[1, 2],
        "column": base[:, :, 3:4],
        "repeated": torch.arange(3.0).expand(2, 3),
        "scalar": base[1, 1, 1],
        "empty": base[:0],
        "parameter": torch.nn.Parameter(base[0]),
    }
    save(views)
    with open_tensors(path) as file:
        for name, view in views.items():
            np.testing.assert_array_equal(file.read(name), view.detach().numpy())
            assert not (view.numel() and file.read(name).flags.owndata)


def test_a_checkpoint_gives_the_tensors_of_its_state_dict(path, save):
    model = torch.nn.Linear(3, 2)
    state = {"state_dict": model.state_dict(), "epoch": 3, "other": torch.ones(2)}
    save({**state, "optimizer": {"lr": 0.1, 0: [1, (2, None)], None: {"a"}}})
    with open_tensors(path) as file:
        assert list(file.specs) == ["weight", "bias"]
        np.testing.assert_array_equal(file.read("bias"), model.bias.detach().numpy())


def test_entries_that_are_no_tensors_are_left_out(path, save):
    save({"a": torch.ones(2), "n": 3, "betas": (0.9, 0.99), "scalar": np.float64(2)})
    with open_tensors(path) as file:
        assert list(file.specs) == ["a"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_every_protocol_are_read(path, protocol):
    names = {"x" * 300: torch.ones(2), "é": torch.zeros(1), "n": 2**70, "b": b"1" * 300}
    torch.save(names, path, pickle_protocol=protocol)
    with open_tensors(path) as file:
        assert list(file.specs) == ["x" * 300, "é"]


def test_callbacks_that_stable_diffusion_was_trained_with_do_no_harm(
    path, save, monkeypatch
):
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")

    class ModelCheckpoint(dict):
        pass

    ModelCheckpoint.__module__ = module.__name__
    ModelCheckpoint.__qualname__ = "ModelCheckpoint"
    module.ModelCheckpoint = ModelCheckpoint
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pytorch_lightning", types.ModuleType("x"))
        patch.setitem(sys.modules, "pytorch_lightning.callbacks", types.ModuleType("x"))
        patch.setitem(sys.modules, module.__name__, module)
        callback = ModelCheckpoint(best=torch.ones(1))
        callback.best_model_score = torch.tensor(0.5)
        save(
            {
                "epoch": 15,
                "global_step": 840000,
                "pytorch-lightning_version": "1.4.2",
                "state_dict": collections.OrderedDict(a=torch.ones(2)),
                "callbacks": {ModelCheckpoint: {"monitor": None, "x": callback}},
                "lr_schedulers": [
                    {"base_lrs": [1.0], "seen": collections.Counter("a")}
                ],
                "best": np.float32(0.5),
            }
        )
    with open_tensors(path) as file:
        assert list(file.specs) == ["a"]


class Malicious:
    """What a pickle does when Python loads it."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def test_a_malicious_pickle_is_refused_by_the_name_of_what_it_asks_for(path, save):
    ran = path.with_name("ran")
    trap = Malicious(exec, f"open({str(ran)!r}, 'w').close()")
    save({"state_dict": {"a": torch.ones(2)}, "trap": trap})
    reason = "asks for __builtin__.exec, which no weights need; nothing of the pickle"
    assert reason in refused(path)
    assert not ran.exists()
    torch.load(path, weights_only=False)
    assert ran.exists()  # So it is what it looks like.


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_is_refused_and_not_run(path, protocol):
    import os

    path.write_bytes(pickle.dumps(Malicious(os.system, "touch ran"), protocol))
    assert f"asks for {os.system.__module__}.system" in refused(path)
    path.write_bytes(pickle.dumps({"a": [1, 2]}, protocol))
    assert "is a pickle, but not one of PyTorch's" in refused(path)


@pytest.mark.parametrize(
    "name",
    [
        "torch.storage._load_from_bytes",
        "torch.load",
        "pytorch_lightningx.os",
        "builtins.eval",
        "os.system",
        "torch.hub.load",
        "numpy.load",
        "torch._utils._rebuild_sparse_tensor",
    ],
)
def test_names_that_no_weights_need_are_refused(path, name):
    module, _, attribute = name.rpartition(".")
    write_zip(path, f"c{module}\n{attribute}\n)R.".encode())
    assert f"asks for {name}" in refused(path)


def write_zip(path, pickled, records=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in dict(records).items():
            archive.writestr(f"archive/{name}", content)


def pickled_tensor(
    offset="K\x00",
    shape="K\x02\x85",
    stride="K\x01\x85",
    storage="ctorch\nFloatStorage\n",
    count="K\x02",
    key="0",
):
    """`{"a": tensor}` with each part as instructions."""
    storage = f"(X\x07\0\0\0storage{storage}X\x01\0\0\0{key}X\x03\0\0\0cpu{count}tQ"
    tensor = (
        f"ctorch._utils\n_rebuild_tensor_v2\n({storage}{offset}{shape}{stride}\x89Nt"
    )
    return f"\x80\x02}}X\x01\0\0\0a{tensor}Rs.".encode("latin-1")


def test_the_tensor_of_the_next_test_is_fine_if_nothing_is_wrong(path):
    write_zip(path, pickled_tensor(), {"data/0": np.ones(2, "f4").tobytes()})
    with open_tensors(path) as file:
        np.testing.assert_array_equal(file.read("a"), np.ones(2, "float32"))


HUGE = "\x8a\x09" + "\xff" * 7 + "\x7f\0"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"shape": "K\x03\x85"}, "goes beyond its storage of 8 bytes"),
        ({"offset": "K\x01"}, "goes beyond its storage of 8 bytes"),
        ({"stride": "K\x02\x85"}, "goes beyond its storage of 8 bytes"),
        ({"offset": "J\xff\xff\xff\xff"}, "offset and strides are not those"),
        ({"stride": "J\xff\xff\xff\xff\x85"}, "offset and strides are not those"),
        ({"stride": ")"}, "offset and strides are not those"),
        ({"stride": "N"}, "offset and strides are not those"),
        ({"offset": HUGE}, "goes beyond its storage of 8 bytes"),
        ({"shape": "J\xff\xff\xff\xff\x85"}, "shape must be integers from 0"),
        ({"shape": f"{HUGE}\x85"}, "beyond what an array can have"),
        ({"shape": "X\x01\0\0\0x"}, "shape must be a list"),
        (
            {"shape": "J\xff\xff\xff\x7f\x85", "stride": "K\x00\x85"},
            "takes 8589934588 bytes, more than the whole file",
        ),
        ({"count": "K\x09"}, "storage of 36 bytes is cut off or damaged"),
        ({"key": "1"}, "there is no record 'archive/data/1'"),
        ({"storage": "ctorch\nQInt8Storage\n"}, "asks for torch.QInt8Storage"),
        ({"storage": "ctorch\nfloat32\n"}, "is no storage of a tensor"),
        ({"count": "J\xff\xff\xff\xff"}, "is no storage of a tensor"),
    ],
)
def test_a_tensor_that_its_storage_cannot_hold_is_refused(path, wrong, reason):
    write_zip(path, pickled_tensor(**wrong), {"data/0": b"\0" * 8})
    assert reason in refused(path)


@pytest.mark.parametrize(
    ("pickled", "reason"),
    [
        (b"\x80\x02}.", "holds no tensors, only entries ''"),
        (b"\x80\x02]X\x01\0\0\0xa.", "holds a list, expected a dict"),
        (b"\x80\x02", "pickle is damaged"),
        (b"\x80\x02.", "takes more than it has put down"),
        (b"\x80\x02(.", "takes more than it has put down"),
        (b"\x80\x02K\x01u.", "takes more than it has put down"),
        (b"\x80\x02h\x05.", "recalls 5, which it never noted"),
        (b"\x80\x02K\x01K\x02a.", "appends to what is no list"),
        (b"\x80\x02}(K\x01u.", "sets items of what is no dict"),
        (b"\x80\x02})K\x01s.", "has a tuple as key"),
        (b"\x80\x02K\x01)R.", "calls a int"),
        (b"\x80\x02ctorch\nSize\nK\x01R.", "arguments are no tuple"),
        (b"\x80\x02ctorch\nSize\nK\x01\x85R.", "calls torch.Size with wrong arguments"),
        (b"\x80\x02K\x01}b.", "sets the state of a int"),
        (b"\x80\x02K\x01Q.", "is no storage of a tensor"),
        (b"\x80\x02K\x01\x93.", "takes more than it has put down"),
        (b"\x80\x02\x82\x01.", "has the instruction EXT1"),
        (b"(ios\nsystem\n.", "has the instruction INST"),
        (b"\x80\x02" + b"}" * 600_000 + b".", "more than 500000 instructions"),
        (b"\x80\x02\x8c\xff", "pickle is damaged"),
        (b"\x80\x02\x8e" + b"\xff" * 7 + b"\x7f", "pickle is damaged"),
        (b"L" + b"9" * 5000 + b"L\n.", "pickle is damaged"),
    ],
)
def test_a_wrong_pickle_is_refused_with_the_reason(path, pickled, reason):
    write_zip(path, pickled)
    assert reason in refused(path)


def test_a_pickle_that_would_take_for_ever_to_hash_or_print_is_refused_at_once(path):
    doubled = b"h\x00h\x00\x86q\x00"
    for use in (b"K\x01s", b"N\x86", b"(ctorch\nSize\nh\x00\x85R"):
        write_zip(path, b"\x80\x02})q\x00" + doubled * 100 + use + b".")
        refused(path)
    rebuilt = b"ctorch._tensor\n_rebuild_from_type_v2\nq\x010"
    nested = b"h\x01)NN\x87" + b"q\x020h\x01Nh\x02N(tQ" + b"."
    write_zip(path, b"\x80\x02" + rebuilt + nested)
    refused(path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda content: content[:-30], "truncated zip archive"),
        (lambda content: content[: len(content) // 2], "truncated zip archive"),
        (lambda content: content.replace(b"PK\x01\x02", b"PK\0\0", 1), "damaged zip"),
        (lambda content: content[:4] + b"\0" * 20 + content[4:], "zip archive at"),
        (lambda content: content.replace(b"data/1", b"data/0"), "at entry 'archive/d"),
    ],
)
def test_a_damaged_archive_is_refused(path, spoil, reason):
    write_zip(path, pickled_tensor(), {"data/0": b"\0" * 8, "data/1": b""})
    path.write_bytes(spoil(path.read_bytes()))
    assert reason in refused(path)


def test_compressed_foreign_and_big_endian_archives_are_refused(path):
    write_zip(path, pickled_tensor(), {"data/0": b"\0" * 8}, zipfile.ZIP_DEFLATED)
    assert "zip entry 'archive/data.pkl' is compressed" in refused(path)
    write_zip(path, pickled_tensor(), {"data/0": b"\0" * 8, "byteorder": b"big"})
    assert "big-endian" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    assert "it has no data.pkl" in refused(path)


def test_tensors_that_are_not_plain_are_refused(path, save):
    save({"a": torch.ones(2, 2).to_sparse()})
    assert "asks for torch._utils._rebuild_sparse_tensor" in refused(path)
    save({"a": torch.ones(2, dtype=torch.complex64).conj()})
    assert "conjugated or negated view" in refused(path)


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.99])
def test_an_old_file_that_is_cut_off_is_refused(path, keep):
    torch.save({"a": torch.ones(100)}, path, **OLD)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    assert "damaged" in refused(path)


def test_an_old_file_with_other_storages_than_it_lists_is_refused(path):
    torch.save({"a": torch.ones(2)}, path, **OLD)
    content = path.read_bytes()
    start = content.rindex(b"\x80\x02]")
    path.write_bytes(content[:start] + pickle.dumps(["x"], 2) + content[start:])
    assert "does not list the storages that it uses" in refused(path)


def test_a_file_in_a_stream_of_its_own_equals_what_torch_reads(path, save):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.GroupNorm(2, 4))
    save(model.state_dict())
    expected = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    with open_tensors(path) as file:
        assert list(file.specs) == list(expected)
        for name, tensor in expected.items():
            np.testing.assert_array_equal(file.read(name), tensor.numpy())
