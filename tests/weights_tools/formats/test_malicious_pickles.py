"""Pickles that would run something, or never end, if Python loaded them.

Each stands in a zip archive and in the form before PyTorch 1.6. What it would run
leaves a file behind.
"""

import pickle
import struct
import time
import tracemalloc
import zipfile

import pytest
import torch

from weights_tools.formats import FormatError, open_tensors

MEGABYTE = 2**20
# What a call leaves behind, and the commands that would.
CALLS = {
    "os.system": "touch {}",
    "posix.system": "touch {}",
    "nt.system": "touch {}",
    "os.popen": "touch {}",
    "subprocess.getoutput": "touch {}",
    "subprocess.Popen": "touch {}",
    "commands.getoutput": "touch {}",
    "builtins.eval": "open({!r}, 'w')",
    "builtins.exec": "open({!r}, 'w')",
    "__builtin__.eval": "open({!r}, 'w')",
    "builtins.compile": "open({!r}, 'w')",
    "builtins.__import__": "os",
    "builtins.getattr": "os",
    "builtins.open": "{}",
    "importlib.import_module": "antigravity",
    "runpy.run_path": "{}",
    "runpy._run_code": "open({!r}, 'w')",
    "timeit.timeit": "open({!r}, 'w')",
    "pdb.run": "open({!r}, 'w')",
    "code.interact": "x",
    "shutil.rmtree": "{}",
    "pickle.loads": "x",
    "marshal.loads": "x",
    "types.FunctionType": "x",
    "types.CodeType": "x",
    "operator.attrgetter": "system",
    "functools.reduce": "x",
    "webbrowser.open": "file://{}",
    "pty.spawn": "touch",
    "torch.load": "{}",
    "torch.hub.load": "{}",
    "torch.storage._load_from_bytes": "x",
    "torch.serialization.load": "{}",
    "torch.jit.load": "{}",
    "numpy.load": "{}",
    "numpy.testing._private.utils.runstring": "open({!r}, 'w')",
    "pathlib.Path.touch": "{}",
    "copyreg.add_extension": "x",
}


def text(value):
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def short(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


def named(name):
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def ways(name, argument):
    """The instructions by which pickles call something, in every protocol."""
    module, _, attribute = name.rpartition(".")
    called = named(name) + text(argument)
    return {
        "reduce": called + b"\x85R",
        "reduce of protocol 0": named(name) + b"(S'x'\ntR",
        "stacked": short(module)
        + short(attribute)
        + b"\x93"
        + text(argument)
        + b"\x85R",
        "inst": b"(" + text(argument) + f"i{module}\n{attribute}\n".encode(),
        "obj": b"(" + called + b"o",
        "newobj": called + b"\x85\x81",
        "newobj_ex": called + b"\x85}\x92",
        "build": called + b"b",
        "named alone": named(name),
        "extension": b"\x82\x01" + text(argument) + b"\x85R",
    }


def bodies(ran):
    """Instructions that make one object, by what they try."""
    for name, command in CALLS.items():
        called = ways(name, command.format(ran))
        chosen = called if name in ("os.system", "builtins.eval") else {}
        for way in ("reduce", "inst", "newobj", *chosen):
            yield f"{name}, {way}", called[way]
    system = named("os.system") + text(f"touch {ran}") + b"\x85R"
    counter = named("collections.Counter")
    yield from {
        "in a reduce": named("torch.Size") + system + b"\x85R",
        "in a set": named("builtins.set") + b"](" + system + b"e\x85R",
        "in a key": b"}" + system + b"Ns",
        "in a state": named("collections.OrderedDict") + b")R" + system + b"b",
        "in a passed object": named("omegaconf.DictConfig") + b")\x81" + system + b"b",
        "in a persistent id": system + b"Q",
        "persistent id as text": b"Pos.system\n",
        "persistent module": b"(" + text("module") + system + b"NNtQ",
        "storage by a call": b"(" + text("storage") + system + text("0") + b"NK\x01tQ",
        "call of a passed name": named("omegaconf.system")
        + text("x")
        + b"\x85R"
        + system,
        "attribute of a passed": named("omegaconf.os.system")
        + text("x")
        + b"\x85R"
        + system,
        "reconstructor": named("copyreg._reconstructor") + system + b"\x85R",
        "partial": named("functools.partial") + named("os.system") + b"\x85R",
        "default factory": named("collections.defaultdict")
        + named("os.system")
        + b"\x85R",
        "rebuild by a type": named("torch._tensor._rebuild_from_type_v2")
        + b"("
        + named("os.system")
        + b"NNNtR",
        "dtype of an object": counter + b"}" + text("__reduce__") + system + b"s\x85R",
        "setstate": named("torch.Tensor") + b")\x81" + system + b"b",
        "huge text": b"X\xff\xff\xff\x7f",
        "huge text of 8 bytes": b"\x8d" + b"\xff" * 7 + b"\x7f",
        "huge bytes": b"\x8e" + b"\xff" * 7 + b"\x7f",
        "huge frame": b"\x95" + b"\xff" * 7 + b"\x7f",
        "huge number": b"\x8b\xff\xff\xff\x7f",
        "huge bytearray": named("builtins.bytearray") + b"\x8a\x06\0\0\0\0\0\1\x85R",
        "huge memo": b"Nr\xff\xff\xff\xff0N",
        "absent memo": b"h\x07",
        "many marks": b"(" * 100_000,
        "nested lists": b"]" * 100_000 + b"a" * 99_999,
        "nested tuples as a key": b"}" + b")" + b"\x85" * 200_000 + b"Ns",
        "doubled lists": b"]q\0" + b"(h\0h\0e" * 1000,
        "doubled tuples as a key": b"})" + b"q\0h\0\x86" * 60 + b"Ns",
        "doubled tuples in a set": named("builtins.set")
        + b"()"
        + b"q\0h\0\x86" * 60
        + b"t\x85\x85R",
    }.items()


def write_zip(path, body, protocol):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", whole(body, protocol))
        archive.writestr("archive/version", "3\n")


def write_old(path, body, protocol):
    """The magic number, the protocol and the system, as PyTorch has them, first."""
    number, version = 0x1950A86A20F9469CFC6C, 1001
    start = b"".join(pickle.dumps(x, 2) for x in (number, version, {"little": True}))
    path.write_bytes(start + whole(body, protocol) + pickle.dumps([], 2))


def whole(body, protocol):
    start = b"\x80" + bytes([protocol]) if protocol else b""
    return start + b"}(" + text("a") + body + b"u."


WRITERS = {"zip": write_zip, "old": write_old}
PICKLES = {name: index % 6 for index, (name, _) in enumerate(bodies("x"))}


@pytest.mark.parametrize("form", WRITERS)
def test_malicious_pickles_run_nothing_and_are_refused(form, tmp_path):
    path, ran = tmp_path / "model.ckpt", tmp_path / "ran"
    write = WRITERS[form]
    tracemalloc.start()
    try:
        for name, body in bodies(ran):
            # Those without end take until they are ended: once is enough.
            endless = name.startswith("doubled tuples")
            if endless and form == "old":
                continue
            # Each in a protocol of its own, and in the one that PyTorch writes.
            for protocol in {2} if endless else {PICKLES[name], 2}:
                write(path, body, protocol)
                started = time.monotonic()
                tracemalloc.reset_peak()
                with pytest.raises(FormatError) as error:
                    open_tensors(path)
                assert str(error.value).startswith(f"{path}: "), name
                assert len(str(error.value)) < 2000, name
                assert time.monotonic() - started < 20, name
                assert tracemalloc.get_traced_memory()[1] < 100 * MEGABYTE, name
                assert not ran.exists(), name
    finally:
        tracemalloc.stop()


def test_there_are_many_and_python_itself_would_run_them(tmp_path):
    ran = tmp_path / "ran"
    found = dict(bodies(ran))
    assert len(found) > 150
    pickle.loads(whole(found["os.system, reduce"], 2))
    assert ran.exists()


def test_the_frame_of_these_pickles_is_one_that_pytorch_reads(tmp_path):
    path = tmp_path / "model.ckpt"
    for write in WRITERS.values():
        write(path, b"N", 2)
        assert torch.load(path, weights_only=True) == {"a": None}
