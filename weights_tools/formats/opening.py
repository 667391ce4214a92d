"""Open a file of named tensors, whatever its format, or a set of such files."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from keras_makeavid.files import StrPath, is_text, substitute_in
from keras_makeavid.json_files import read_json
from weights_tools.formats.flax_format import is_flax, open_flax
from weights_tools.formats.hdf5_format import Hdf5Tensors
from weights_tools.formats.safetensors_format import open_safetensors
from weights_tools.formats.tensors import FormatError, MappedFile, TensorFile, shortened
from weights_tools.formats.torch_format import open_torch

# Twenty times the index of the largest model of this family.
_LONGEST_INDEX = 4 * 2**20
_SHOWN = 16


class _Format(NamedTuple):
    """How a file of a format begins, what opens it, and how its name may end."""

    starts: Callable[[bytes], bool]
    open: Callable[[MappedFile], TensorFile]
    suffixes: tuple[str, ...] = ()


_FORMATS = (
    # The length of a header of JSON; text, such as an index, has no zero bytes.
    _Format(lambda s: s[5:9] == b"\0\0\0{", open_safetensors, (".safetensors",)),
    _Format(lambda s: s[:8] == b"\x89HDF\r\n\x1a\n", Hdf5Tensors, (".h5", ".hdf5")),
    _Format(lambda s: s[:4] == b"PK\x03\x04", open_torch),
    # A pickle of protocol 2 to 5.
    _Format(
        lambda s: s[0] == 0x80 and 2 <= s[1] <= 5,
        open_torch,
        (".bin", ".ckpt", ".pt", ".pth"),
    ),
    _Format(is_flax, open_flax, (".msgpack",)),
)
# Gzip, xz, zstandard, 7-Zip and RAR.
_PACKED = b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!"


def open_tensors(path: StrPath) -> TensorFile:
    """Open a file of named tensors; nothing but its header is read.

    The format is told by the content, then by the suffix: safetensors, checkpoints of
    PyTorch (nothing in them is run), Flax's msgpack, HDF5 as Keras writes it, or the
    `index.json` of files in any of these. Others are a `FormatError`.

    Example:
    ```python
    specs = {"bias": TensorSpec((3,), "float32")}
    with create_tensors("a.h5", specs, "hdf5") as writer:
        writer.write("bias", np.ones(3, "float32"))
    with open_tensors("a.h5") as file:
        bias = file.read("bias")  # (3,)
    ```
    """
    file = MappedFile(path)
    start = file.map[:4096]
    is_json = file.path.suffix == ".json" or start.lstrip().startswith(b"{")
    if is_json and not substitute_in(start):
        return _open_sharded(file)
    return _open_one(file)


def _open_one(file: MappedFile) -> TensorFile:
    start = file.map[:4096].ljust(_SHOWN, b"\0")
    for candidate in _FORMATS:
        if candidate.starts(start):
            return candidate.open(file)
    if what := substitute_in(start):
        raise file.error(what)
    if start.startswith(_PACKED) or start[257:262] == b"ustar":
        raise file.error("is a packed file: unpack it, and give what is in it")
    text = is_text(file.map[:4096])
    for candidate in _FORMATS:
        if file.path.suffix in candidate.suffixes and not text:
            return candidate.open(file)
    instead = ", but text: download it again" if text else ""
    raise file.error(
        "is no safetensors file, checkpoint of PyTorch, msgpack of Flax, HDF5 file or "
        f"index of such{instead}. It begins with {start[:_SHOWN]!r}"
    )


def _open_sharded(index: MappedFile) -> TensorFile:
    """Open a sharded set, whose shards must hold exactly what the index lists."""
    weight_map = _weight_map(index)
    shards = {shard: _inside(index.path, shard) for shard in set(weight_map.values())}
    with ExitStack() as files:
        opened = {
            shard: files.enter_context(_open_one(MappedFile(path)))
            for shard, path in sorted(shards.items())
        }
        for shard, file in opened.items():
            for name in file.specs:
                if weight_map.get(name) != shard:
                    home = weight_map.get(name)
                    listed = f"in {shortened(home)}" if home else "nowhere"
                    problem = f"is here and, by {index.path.name}, {listed}"
                    raise file.error(problem, name)
        for name, shard in weight_map.items():
            if name not in opened[shard].specs:
                problem = f"is absent, but {index.path.name} lists it"
                raise opened[shard].error(problem, name)
        homes = {name: opened[shard] for name, shard in weight_map.items()}
        specs = {name: home.specs[name] for name, home in homes.items()}
        metadata = next(iter(homes.values())).metadata
        read, close = lambda name: homes[name].read(name), files.pop_all().close
        return TensorFile(index.path, specs, read, metadata, close)


def _weight_map(index: MappedFile) -> dict[str, str]:
    try:
        content = read_json(index.path, min(index.size, _LONGEST_INDEX))
    except ValueError as error:
        raise index.error(f"is no index of shards: {error}") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise index.error("has no weight_map of names to files")
    for name, shard in weight_map.items():
        if not isinstance(shard, str):
            expected = "file must be a string"
            raise index.error(f"{expected}. Received: {shortened(shard)}", name)
    return weight_map


def _inside(index: Path, shard: str) -> Path:
    """The path of a shard, which must lie in the index's folder."""
    path = index.parent / shard
    # It takes both kinds of slashes.
    spelled = PureWindowsPath(shard)
    outside = FormatError(index, f"points out of its folder: {shortened(shard)}")
    if "\0" in shard or ".." in spelled.parts or spelled.anchor:
        raise outside
    if not path.is_file():
        raise FileNotFoundError(f"{index} lists {shortened(shard)}, which is not there")
    if not any(path.resolve().is_relative_to(root) for root in _roots(index)):
        raise outside
    return path


def _roots(index: Path) -> list[Path]:
    """Folders that shards may lie in, as the hub's `blobs`, which its links lead to."""
    folder = index.parent.absolute()
    revisions = [p for p in (folder, *folder.parents) if p.parent.name == "snapshots"]
    blobs = [revision.parent.parent / "blobs" for revision in revisions[:1]]
    return [root.resolve() for root in (folder, *blobs)]
