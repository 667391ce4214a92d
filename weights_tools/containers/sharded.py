"""A set of tensors cut into several files, with an index that tells which is where."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from weights_tools.containers.errors import ContainerError, shortened
from weights_tools.containers.mapped_file import MappedFile
from weights_tools.containers.strict_json import StrictJsonError, parse_strictly
from weights_tools.containers.tensor_file import TensorFile

# Twenty times the index of the largest model of this family.
_LONGEST_INDEX = 4 * 2**20


def is_index(start: bytes) -> bool:
    """Whether a file that starts so is meant as an index in JSON.

    Args:
        start: its first bytes.

    Example:
    ```python
    is_index(b'{"weight_map": {}}')  # True
    ```
    """
    return start.lstrip().startswith(b"{")


class ShardedTensors(TensorFile):
    """The tensors of several files as if they were in one.

    Args:
        path: the index.
        homes: the open file of each tensor, in the order of the index.
        files: all open files, which are closed with this one.
        metadata: what the first file says of itself.
    """

    def __init__(self, path: Path, homes: dict[str, TensorFile], files: ExitStack):
        first = next(iter(homes.values()))
        specs = {name: home.specs[name] for name, home in homes.items()}
        super().__init__(path, specs, first.metadata)
        self._homes = homes
        self._files = files

    def _read(self, name: str) -> np.ndarray:
        return self._homes[name].read(name)

    def close(self) -> None:
        self._files.close()


def open_sharded(index: MappedFile, open_one) -> ShardedTensors:
    """Open a sharded set; of each file only the header is read.

    Args:
        index: the `*.index.json`.
        open_one: opens the file of one shard.

    Raises:
        FileNotFoundError: if a shard is missing.
        ContainerError: if the index is damaged or points out of its folder, or the
            shards do not hold exactly what it lists.
    """
    weight_map = _weight_map(index)
    shards = {shard: _inside(index.path, shard) for shard in set(weight_map.values())}
    with ExitStack() as files:
        opened = {
            shard: files.enter_context(open_one(path))
            for shard, path in sorted(shards.items())
        }
        _check_contents(index.path, weight_map, opened)
        homes = {name: opened[shard] for name, shard in weight_map.items()}
        return ShardedTensors(index.path, homes, files.pop_all())


def _weight_map(index: MappedFile) -> dict[str, str]:
    if index.size > _LONGEST_INDEX:
        raise ContainerError(
            index.path, f"has {index.size} bytes, expected at most {_LONGEST_INDEX}"
        )
    try:
        content = parse_strictly(index.map[:])
    except StrictJsonError as error:
        raise ContainerError(index.path, str(error)) from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise ContainerError(index.path, "has no weight_map of names to files")
    for name, shard in weight_map.items():
        if not isinstance(shard, str):
            raise ContainerError(
                index.path, f"file must be a string. Received: {shortened(shard)}", name
            )
    return weight_map


def _inside(index: Path, shard: str) -> Path:
    """The path of a shard, which must lie in the index's folder."""
    path = index.parent / shard
    parts = {*PurePosixPath(shard).parts, *PureWindowsPath(shard).parts}
    outside = ContainerError(index, f"points out of its folder: {shortened(shard)}")
    if "\0" in shard or ".." in parts or PureWindowsPath(shard).anchor:
        raise outside
    if not path.is_file():
        raise FileNotFoundError(f"{index} lists {shortened(shard)}, which is not there")
    if not any(path.resolve().is_relative_to(root) for root in _roots(index)):
        raise outside
    return path


def _roots(index: Path) -> list[Path]:
    """Folders that the files of a sharded set may really lie in.

    In the cache of `huggingface_hub` the files of a revision are links to the `blobs`
    of the same repository.
    """
    folder = index.parent.absolute()
    revisions = [p for p in (folder, *folder.parents) if p.parent.name == "snapshots"]
    blobs = [revision.parent.parent / "blobs" for revision in revisions[:1]]
    return [root.resolve() for root in (folder, *blobs)]


def _check_contents(
    index: Path, weight_map: dict[str, str], opened: dict[str, TensorFile]
) -> None:
    for shard, file in opened.items():
        for name in file.specs:
            if name not in weight_map:
                raise ContainerError(file.path, f"is not listed in {index.name}", name)
            if weight_map[name] != shard:
                raise ContainerError(
                    file.path,
                    f"stands here and, by {index.name}, in "
                    f"{shortened(weight_map[name])}",
                    tensor=name,
                )
    for name, shard in weight_map.items():
        if name not in opened[shard].specs:
            raise ContainerError(
                opened[shard].path, f"is absent, but {index.name} lists it", name
            )
