import argparse
import collections
import datetime
import decimal
import enum
import fractions
import functools
import http
import io
import logging
import pathlib
import pickle
import re
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from weights_tools.formats import FormatError, TensorSpec, open_tensors

OLD = {"_use_new_zipfile_serialization": False}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.ckpt"


@pytest.fixture(params=[{}, OLD], ids=["zip", "old"])
def save(request, path):
    return lambda content: torch.save(content, path, **request.param)


def refused(path):
    with pytest.raises(FormatError) as error:
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


def test_names_and_entries_of_every_kind_are_read(path):
    names = {"x" * 300: torch.ones(2), "é": torch.zeros(1), "n": 2**70, "b": b"1" * 300}
    torch.save(names, path)
    with open_tensors(path) as file:
        assert list(file.specs) == ["x" * 300, "é"]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_pickle_protocol_that_pytorch_refuses_is_named_with_the_way_out(
    path, protocol
):
    torch.save({"a": torch.ones(2)}, path, pickle_protocol=protocol)
    assert f"has protocol {protocol}" in refused(path)
    assert "save it again by torch.save" in refused(path)


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


def settings_of_tools(monkeypatch):
    """Objects that training tools leave in their checkpoints."""

    def fake(module, name, bases=(), **members):
        kind = type(name, bases, {"__module__": module, **members})
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            package = ".".join(parts[:depth])
            if package not in sys.modules:
                monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
        setattr(sys.modules[module], name, kind)
        return kind

    attributes = fake("lightning.fabric.utilities.data", "AttributeDict", (dict,))
    config = fake("omegaconf.dictconfig", "DictConfig")()
    config.__dict__.update(_content={"lr": 0.1}, _parent=None)
    ranges = fake("someones.tool", "Ranges", (list,))([1, 2])
    slots = fake("someones.tool", "Slots", (), __slots__=("a",))()
    slots.a = 1
    colour = enum.Enum("Colour", "RED", module="someones.tool")
    sys.modules["someones.tool"].Colour = colour
    plain = fake("someones.tool", "plain")()

    def collate(batch):
        return batch

    collate.__module__, collate.__qualname__ = "someones.tool", "collate"
    sys.modules["someones.tool"].collate = collate
    return {
        "hyper_parameters": attributes(lr=0.1, nested=attributes(a=1)),
        "config": config,
        "ranges": ranges,
        "slots": slots,
        "colour": colour.RED,
        "args": argparse.Namespace(lr=0.1, path=pathlib.Path("a/b")),
        "path": pathlib.PurePosixPath("a/b"),
        "counts": collections.defaultdict(list, a=[1]),
        "last": collections.deque([1, 2]),
        "when": datetime.datetime(2024, 1, 1),
        "scalar": np.float32(0.5),
        "array": np.arange(3),
        "random": ("MT19937", np.arange(4, dtype="uint32"), 3, 0, 0.0),
        "dtype": np.dtype("float32"),
        "kind": np.float64,
        "numbers": [kind(1) for kind in SCALARS],
        "text": [np.str_("a"), np.bytes_(b"a"), np.datetime64("2024-01-01")],
        "empty": (np.zeros(0), b"", bytearray(b"a"), 1j, {1}, frozenset({1})),
        "arrays": (np.ma.array([1], mask=[1]), np.rec.array([(1, 2.0)])),
        "generators": (np.random.default_rng(0), np.random.RandomState(0)),
        "function": np.mean,
        "kinds": (int, str, bytes, type(None), complex, set, np.bool_),
        "several": (range(3), slice(1), ..., list[int], collections.ChainMap({})),
        "by default": collections.defaultdict(int, a=1),
        "times": (
            datetime.time(1),
            datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
            datetime.timedelta(1),
        ),
        "fraction": fractions.Fraction(1, 3),
        "decimal": decimal.Decimal("1.5"),
        "status": http.HTTPStatus.OK,
        "pattern": re.compile("a+"),
        "logger": logging.getLogger("x"),
        "of Windows": pathlib.PureWindowsPath("C:\\a"),
        "plain": plain,
        "partial": functools.partial(collate, []),
        "collate": collate,
        "activation": functools.partial(torch.nn.functional.silu, inplace=True),
        "sizes": (torch.Size([1]), torch.float16, torch.device("cuda:0")),
        "version": torch.__version__,
        "classes": (torch.optim.AdamW, attributes),
    }


SCALARS = (
    *(np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32),
    *(np.uint64, np.float16, np.float32, np.float64, np.longdouble, np.complex64),
)


def test_settings_beside_the_weights_are_passed_over(path, save, monkeypatch):
    with monkeypatch.context() as patch:
        save({"state_dict": {"a": torch.ones(2)}, **settings_of_tools(patch)})
    before = set(torch.serialization.get_safe_globals())
    with open_tensors(path) as file:
        assert list(file.specs) == ["a"]
    assert set(torch.serialization.get_safe_globals()) == before


def test_settings_of_numpy_1_are_passed_over(path):
    settings = [np.float64(1), np.arange(3), np.dtype("f4"), np.random.default_rng(0)]
    torch.save({"state_dict": {"a": torch.ones(2)}, "x": settings}, path, **OLD)
    content = path.read_bytes()
    assert b"numpy._core" in content
    path.write_bytes(content.replace(b"numpy._core", b"numpy.core"))
    with open_tensors(path) as file:
        assert list(file.specs) == ["a"]


def test_a_layer_beside_the_weights_is_passed_over_and_listed(path):
    layer = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.SiLU())
    torch.save({"state_dict": {"a": torch.ones(2)}, "loss": layer}, path)
    with open_tensors(path) as file:
        assert list(file.specs) == ["a"]
        assert file.left_out == ("loss: an entry of the checkpoint",)


def test_what_lies_deeper_than_a_running_mean_is_listed(path, save):
    # As diffusers' `EMAModel` has it: by order, not by name.
    mean = {"decay": 0.99, "shadow_params": [torch.ones(3), torch.ones(4)]}
    state = {"a": torch.ones(2), "more": {"b": torch.ones(5)}}
    save({"state_dict": state, "ema": mean})
    with open_tensors(path) as file:
        assert list(file.specs) == ["a"]
        assert file.left_out == (
            "state_dict: further entries",
            "ema: an entry of the checkpoint",
        )


def test_a_whole_model_is_refused_with_the_way_out(path):
    torch.save(torch.nn.Linear(3, 2), path)
    assert "save its state_dict() instead" in refused(path)


@pytest.mark.parametrize(
    "name", ["state_dict", "model", "module", "model_state_dict", "unet", "params", 0]
)
def test_weights_one_level_down_are_taken(path, save, name):
    save({name: {"a": torch.ones(2)}, "ema_decay": torch.ones(()), "step": 3})
    with open_tensors(path) as file:
        assert list(file.specs) == ["a"]


def test_of_several_dicts_of_other_names_none_is_guessed(path, save):
    save({"first": {"a": torch.ones(2)}, "second": {"a": torch.ones(2)}})
    assert "holds no tensors, only entries 'first, second'" in refused(path)


def test_without_pytorch_one_line_asks_for_it(path, save, monkeypatch):
    save({"a": torch.ones(2)})
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"install keras-makeavid\[torch\]"):
        open_tensors(path)


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
    reason = "asks for builtins.exec, which no weights need; nothing of the pickle"
    assert reason in refused(path)
    assert not ran.exists()
    torch.load(path, weights_only=False)
    assert ran.exists()  # So it is what it looks like.


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_is_refused_and_not_run(path, protocol):
    import os

    ran = path.with_name("ran")
    path.write_bytes(pickle.dumps(Malicious(os.system, f"touch {ran}"), protocol))
    refused(path)
    assert not ran.exists()
    path.write_bytes(pickle.dumps({"a": [1, 2]}, protocol))
    refused(path)


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
    ],
)
def test_names_that_no_weights_need_are_refused(path, name):
    module, _, attribute = name.rpartition(".")
    write_zip(path, f"c{module}\n{attribute}\n)R.".encode())
    assert f"asks for {name}" in refused(path)


def write_zip(path, pickled, records=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
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
    "wrong",
    [
        {"shape": "K\x03\x85"},
        {"offset": "K\x01"},
        {"stride": "K\x02\x85"},
        {"offset": "J\xff\xff\xff\xff"},
        {"stride": "J\xff\xff\xff\xff\x85"},
        {"offset": HUGE},
        {"shape": "J\xff\xff\xff\xff\x85"},
        {"shape": f"{HUGE}\x85"},
        {"shape": "X\x01\0\0\0x"},
        {"shape": "J\xff\xff\xff\x7f\x85", "stride": "K\x00\x85"},
        {"key": "1"},
        {"storage": "ctorch\nQInt8Storage\n"},
        {"storage": "ctorch\nfloat32\n"},
        {"count": "J\xff\xff\xff\xff"},
    ],
)
def test_a_tensor_that_its_storage_cannot_hold_is_refused(path, wrong):
    write_zip(path, pickled_tensor(**wrong), {"data/0": b"\0" * 8})
    refused(path)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02}.",
        b"\x80\x02]X\x01\0\0\0xa.",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02(.",
        b"\x80\x02K\x01u.",
        b"\x80\x02h\x05.",
        b"\x80\x02K\x01K\x02a.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02})K\x01s.",
        b"\x80\x02K\x01)R.",
        b"\x80\x02ctorch\nSize\nK\x01R.",
        b"\x80\x02ctorch\nSize\nK\x01\x85R.",
        b"\x80\x02K\x01}b.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02K\x01\x93.",
        b"\x80\x02\x82\x01.",
        b"(ios\nsystem\n.",
        b"\x80\x02" + b"}" * 600_000 + b".",
        b"\x80\x02\x8c\xff",
        b"\x80\x02\x8e" + b"\xff" * 7 + b"\x7f",
        b"L" + b"9" * 5000 + b"L\n.",
    ],
)
def test_a_wrong_pickle_is_refused(path, pickled):
    write_zip(path, pickled)
    refused(path)


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
    "spoil",
    [
        lambda content: content[:-30],
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"PK\x01\x02", b"PK\0\0", 1),
        lambda content: content[:4] + b"\0" * 20 + content[4:],
        lambda content: content.replace(b"data/1", b"data/0"),
    ],
)
def test_a_damaged_archive_is_refused(path, spoil):
    write_zip(path, pickled_tensor(), {"data/0": b"\0" * 8, "data/1": b""})
    path.write_bytes(spoil(path.read_bytes()))
    refused(path)


def test_compressed_foreign_and_big_endian_archives_are_refused(path):
    write_zip(path, pickled_tensor(), {"data/0": b"\0" * 8}, zipfile.ZIP_DEFLATED)
    assert "is compressed" in refused(path)
    write_zip(path, pickled_tensor(), {"data/0": b"\0" * 8, "byteorder": b"big"})
    assert "big-endian" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    assert "it has no data.pkl" in refused(path)


def test_tensors_that_are_not_plain_are_refused(path, save):
    save({"a": torch.ones(2, 2).to_sparse()})
    assert "tensor 'a': is no plain tensor" in refused(path)
    save({"a": torch.ones(2, dtype=torch.complex64).conj()})
    assert "is no plain tensor" in refused(path)


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
    refused(path)


def test_a_file_in_a_stream_of_its_own_equals_what_torch_reads(path, save):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.GroupNorm(2, 4))
    save(model.state_dict())
    expected = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    with open_tensors(path) as file:
        assert list(file.specs) == list(expected)
        for name, tensor in expected.items():
            np.testing.assert_array_equal(file.read(name), tensor.numpy())
