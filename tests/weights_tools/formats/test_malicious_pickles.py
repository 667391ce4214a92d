"""Pickles that would run something, or never end, if Python loaded them.

Each is tried in every protocol, 0 to 5, in a zip archive and in the form before
PyTorch 1.6. What it would run leaves a file behind. Of those in `running` a test
shows that Python itself does run them.
"""

import copyreg
import pickle
import struct
import time
import tracemalloc
import zipfile
from contextlib import suppress

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


EVAL = named("builtins.eval")
# Makes an object whose attributes a state may set.
PLAIN = named("argparse.Namespace") + b")R"
EXTENSIONS = {240: b"\x82\xf0", 300: b"\x83\x2c\1", 70000: b"\x84\x70\x11\1\0"}


def sized(opcode, form, content):
    return opcode + struct.pack(form, len(content)) + content


def running(ran):
    """Instructions that call `eval`, in all the ways in which pickles call."""
    code = f"open({str(ran)!r}, 'w').close()"
    raw = code.encode()
    asked = text(code) + b"\x85R"
    # What the instructions of each protocol write texts and bytes as: 0, 1, 3, 4 and 5.
    for name, argument in {
        "STRING": b"S" + repr(code).encode() + b"\n",
        "UNICODE": b"V" + raw + b"\n",
        "BINSTRING": sized(b"T", "<i", raw),
        "SHORT_BINSTRING": sized(b"U", "<B", raw),
        "BINUNICODE": text(code),
        "BINBYTES": sized(b"B", "<I", raw),
        "SHORT_BINBYTES": sized(b"C", "<B", raw),
        "SHORT_BINUNICODE": short(code),
        "BINUNICODE8": sized(b"\x8d", "<Q", raw),
        "BINBYTES8": sized(b"\x8e", "<Q", raw),
        "BYTEARRAY8": sized(b"\x96", "<Q", raw),
        "NEXT_BUFFER": b"\x97",
        "READONLY_BUFFER": b"\x97\x98",
    }.items():
        yield f"eval of {name}", EVAL + argument + b"\x85R"
    stacked = short("builtins") + short("eval") + b"\x93"
    # `bytes` takes from `map` what it calls.
    mapped = named("builtins.map") + EVAL + b"](" + text(code) + b"e\x86"
    taken = named("builtins.bytes") + mapped
    yield from {
        "TUPLE": EVAL + b"(" + text(code) + b"tR",
        "TUPLE2": EVAL + text(code) + b"}\x86R",
        "TUPLE3": EVAL + text(code) + b"}}\x87R",
        "STACK_GLOBAL": stacked + asked,
        "STACK_GLOBAL of UNICODE": b"Vbuiltins\nVeval\n\x93" + asked,
        "INST": b"(" + text(code) + b"ibuiltins\neval\n",
        "OBJ": b"(" + EVAL + text(code) + b"o",
        "NEWOBJ": taken + b"\x81\x85\x81",
        "NEWOBJ_EX": taken + b"}\x92\x85}\x92",
        "BUILD": PLAIN + b"}" + text("__setstate__") + EVAL + b"sb" + text(code) + b"b",
        "BUILD of slots": PLAIN
        + b"N}"
        + text("__setstate__")
        + EVAL
        + b"s\x86b"
        + text(code)
        + b"b",
        "APPEND": PLAIN + b"}" + text("append") + EVAL + b"sb" + text(code) + b"a",
        "APPENDS": PLAIN + b"}" + text("append") + EVAL + b"sb(" + text(code) + b"e",
        "ADDITEMS": PLAIN + b"}" + text("add") + EVAL + b"sb(" + text(code) + b"\x90",
        "PUT and GET": EVAL + b"p0\n0g0\n" + asked,
        "BINPUT and BINGET": EVAL + b"q\0000h\0" + asked,
        "LONG_BINPUT and LONG_BINGET": EVAL + b"r\0\1\0\0000j\0\1\0\0" + asked,
        "MEMOIZE": EVAL + b"\x940h\0" + asked,
        "BINPUT over another": b"Nq\0000" + EVAL + b"q\0000h\0" + asked,
        "DUP": EVAL + b"20" + asked,
        "POP": EVAL + asked + b"0N",
        "POP_MARK": b"(" + EVAL + asked + b"1N",
        "FRAME": sized(b"\x95", "<Q", EVAL + asked),
        "PROTO again": b"\x80\x02" + EVAL + asked,
        "in a FROZENSET": b"(" + EVAL + asked + b"\x91",
        "in a key": b"}" + EVAL + asked + b"Ns",
        "in a DICT": b"(" + text("b") + EVAL + asked + b"d",
        "in a LIST": b"(" + EVAL + asked + b"l",
        "in a set": b"\x8f(" + EVAL + asked + b"\x90",
    }.items()
    for number, opcode in EXTENSIONS.items():
        yield f"EXT {number}", opcode + asked


def bodies(ran):
    """Instructions that make one object, by what they try."""
    yield from running(ran)
    for name, command in CALLS.items():
        module, _, attribute = name.rpartition(".")
        argument = text(command.format(ran))
        yield f"{name}, REDUCE", named(name) + argument + b"\x85R"
        yield f"{name}, INST", b"(" + argument + f"i{module}\n{attribute}\n".encode()
        yield f"{name}, NEWOBJ", named(name) + argument + b"\x85\x81"
        yield (
            f"{name}, STACK_GLOBAL",
            short(module) + short(attribute) + b"\x93" + argument + b"\x85R",
        )
    system = named("os.system") + text(f"touch {ran}") + b"\x85R"
    counter = named("collections.Counter")
    yield from {
        "in a reduce": named("torch.Size") + system + b"\x85R",
        "named alone": named("os.system"),
        "by a dotted name": short("pathlib") + short("os.system") + b"\x93" + system,
        "in a set of Python": named("builtins.set") + b"](" + system + b"e\x85R",
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


def write_old(path, body, protocol, place=3):
    """What PyTorch has first, magic number, protocol and system, and storages' keys."""
    number, version = 0x1950A86A20F9469CFC6C, 1001
    pickles = [pickle.dumps(x, 2) for x in (number, version, {"little": True}, {}, [])]
    pickles[place] = whole(body, protocol)
    path.write_bytes(b"".join(pickles))


def whole(body, protocol):
    start = b"\x80" + bytes([protocol]) if protocol > 1 else b""
    # Marks, in place of the empty dict that came with protocol 1.
    return start + (b"}(" if protocol else b"(d(") + text("a") + body + b"u."


WRITERS = {"zip": write_zip, "old": write_old}
# That take until they are ended: once is enough.
ENDLESS = "doubled tuples"


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("protocol", range(6))
def test_malicious_pickles_run_nothing_and_are_refused(form, protocol, tmp_path):
    path, ran = tmp_path / "model.ckpt", tmp_path / "ran"
    for name, body in bodies(ran):
        if name.startswith(ENDLESS) and (form, protocol) != ("zip", 2):
            continue
        WRITERS[form](path, body, protocol)
        check_is_refused(path, name)
        assert not ran.exists(), name


def check_is_refused(path, name):
    started = time.monotonic()
    with pytest.raises(FormatError) as error:
        open_tensors(path)
    assert str(error.value).startswith(f"{path}: "), name
    assert len(str(error.value)) < 2000, name
    assert time.monotonic() - started < 20, name


def test_those_that_claim_much_take_little_memory(tmp_path):
    path = tmp_path / "model.ckpt"
    tracemalloc.start()
    try:
        for name, body in bodies(tmp_path / "ran"):
            if name.startswith(("huge", "many", "nested", "doubled lists")):
                write_zip(path, body, 2)
                tracemalloc.reset_peak()
                check_is_refused(path, name)
                assert tracemalloc.get_traced_memory()[1] < 100 * MEGABYTE, name
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("place", [0, 1, 2, 4])
def test_the_pickles_around_the_tensors_run_nothing_either(place, tmp_path):
    path, ran = tmp_path / "model.ckpt", tmp_path / "ran"
    for name, body in running(ran):
        for protocol in range(6):
            write_old(path, body, protocol, place)
            check_is_refused(path, name)
            assert not ran.exists(), name


def test_there_are_many_and_python_itself_runs_them_in_each_protocol(tmp_path):
    ran = tmp_path / "ran"
    found = list(bodies(ran))
    assert len({body for _, body in found}) == len(dict(found)) == len(found) > 185
    code = f"open({str(ran)!r}, 'w').close()".encode()
    for name, body in running(ran):
        number = int(name.removeprefix("EXT ")) if name.startswith("EXT") else 1
        copyreg.add_extension("builtins", "eval", number)
        try:
            for protocol in range(6):
                # What was made may then fit nothing.
                with suppress(Exception):
                    pickle.loads(whole(body, protocol), buffers=[code])
                assert ran.exists(), (name, protocol)
                ran.unlink()
        finally:
            copyreg.remove_extension("builtins", "eval", number)


def test_the_frame_of_these_pickles_is_one_that_pytorch_reads(tmp_path):
    path = tmp_path / "model.ckpt"
    for write in WRITERS.values():
        write(path, b"N", 2)
        assert torch.load(path, weights_only=True) == {"a": None}
