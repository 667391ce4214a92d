"""The structure of an HDF5 file, read without the HDF5 library.

That library crashes or never returns on some damaged files. This reads what h5py and
Keras write by default (superblock 0, symbol tables), all of it within bounds and once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from weights_tools.containers.mapped_file import Extent, MappedFile

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNDEFINED = 2**64 - 1

# Kinds of messages in the header of an object.
DATASPACE, DATATYPE, LAYOUT, FILTERS = 0x01, 0x03, 0x08, 0x0B
EXTERNAL_FILES, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE = 0x07, 0x0C, 0x10, 0x11
_SHARED = 2
_SOFT_LINK = 2

# A hundred times the structure of a file of this family.
_MOST_STRUCTURE = 64 * 2**20
_TALLEST_TREE = 16
NEWER = (
    "is written in a newer form of HDF5 than Keras writes: copy it with h5py's default "
    "libver and names in ASCII"
)


class Hdf5Error(ValueError):
    """An HDF5 file is damaged, or has what no file of weights needs."""


class Message(NamedTuple):
    """One message of an object's header.

    Args:
        kind: its number in the format.
        body: its bytes.
        offset: where they start in the file.
    """

    kind: int
    body: bytes
    offset: int


class Hdf5File:
    """Objects of an HDF5 file by their addresses.

    Args:
        file: the mapped file.
    """

    def __init__(self, file: MappedFile):
        self.file = file
        # Each structure has bytes of its own: more than all of them is a loop.
        self._left = min(file.size, _MOST_STRUCTURE)
        self._heaps: dict[int, dict[int, Extent]] = {}

    def take(self, offset: int, form: str) -> tuple:
        """Unpack numbers at an offset.

        Args:
            offset: where they start.
            form: struct format, little-endian.

        Raises:
            Hdf5Error: if the file ends before, or its structures overlap.
        """
        return struct.unpack(
            "<" + form, self.piece(offset, struct.calcsize("<" + form))
        )

    def piece(self, offset: int, nbytes: int) -> bytes:
        """Copy a piece of structure.

        Args:
            offset: where it starts.
            nbytes: how long it is.

        Raises:
            Hdf5Error: if the file ends before, or its structures overlap.
        """
        if not self.file.holds(offset, nbytes):
            raise Hdf5Error(
                f"is truncated or damaged: its structure leads to the bytes {offset} "
                f"to {offset + nbytes} of {self.file.size}"
            )
        self._left -= nbytes
        if self._left < 0:
            raise Hdf5Error("is damaged: its structure leads in circles")
        return self.file.map[offset : offset + nbytes]

    def root(self) -> int:
        """Address of the root group.

        Raises:
            Hdf5Error: if the file is damaged or of another version.
        """
        signature, version = self.take(0, "8sB")
        if signature != SIGNATURE:
            raise Hdf5Error("is no HDF5 file")
        if version > 1:
            raise Hdf5Error(NEWER)
        offset_size, length_size = self.take(13, "2B")
        base, _, end, _, _, root = self.take(24 if version == 0 else 28, "6Q")
        if (offset_size, length_size, base) != (8, 8, 0):
            raise Hdf5Error("has offsets that are not of 8 bytes from its start")
        if end > self.file.size:
            raise Hdf5Error(f"is truncated: {end} bytes once, {self.file.size} now")
        return root

    def messages(self, address: int) -> list[Message]:
        """All messages in the header of an object.

        Args:
            address: of the object.

        Raises:
            Hdf5Error: if it is damaged or of another version.
        """
        version, _, count, _, size = self.take(address, "2BHLL")
        if version != 1:
            raise Hdf5Error(NEWER)
        blocks, found = [(address + 16, size)], []
        for start, length in blocks:
            position = start
            while position + 8 <= start + length and len(found) < count:
                kind, nbytes, flags = self.take(position, "HHB3x")
                message = Message(kind, self.piece(position + 8, nbytes), position + 8)
                position += 8 + nbytes
                if kind == DATATYPE and flags & _SHARED:
                    raise Hdf5Error("has a dtype that is defined elsewhere")
                if kind == CONTINUATION:
                    blocks.append(unpacked("QQ", message.body))
                found.append(message)
        return found

    def links(self, table: bytes) -> Iterator[tuple[str, int]]:
        """Name and address of each member of a group.

        Args:
            table: body of the group's symbol table message.

        Raises:
            Hdf5Error: if it is damaged, or a member is a link to elsewhere.
        """
        tree, heap = unpacked("QQ", table)
        signature, version, length, _, names = self.take(heap, "4sB3xQQQ")
        if (signature, version) != (b"HEAP", 0) or not self.file.holds(names, length):
            raise Hdf5Error("is damaged: a group's names are not there")
        for node in self.leaves(tree, 0, "Q"):
            signature, version, count = self.take(node[-1], "4sBxH")
            if (signature, version) != (b"SNOD", 1):
                raise Hdf5Error("is damaged: a group's members are not there")
            for index in range(count):
                at, address, kind = self.take(node[-1] + 8 + 40 * index, "QQL20x")
                if kind == _SOFT_LINK:
                    raise Hdf5Error("has a soft link, which is not followed")
                yield self.text(names + at, names + length), address

    def leaves(self, address: int, kind: int, key: str) -> Iterator[tuple]:
        """Entries of a tree, from left to right.

        Args:
            address: of its root.
            kind: of the tree: 0 for groups, 1 for chunks.
            key: struct format of the keys.

        Yields:
            The unpacked key and then the address of each entry.

        Raises:
            Hdf5Error: if it is damaged.
        """
        signature, found, level, count = self.take(address, "4sBBH16x")
        if (signature, found) != (b"TREE", kind) or level > _TALLEST_TREE:
            raise Hdf5Error("is damaged: a tree is not there")
        entry = key + "Q"
        size = struct.calcsize("<" + entry)
        for index in range(count):
            values = self.take(address + 24 + index * size, entry)
            if level == 0:
                yield values
                continue
            if self.take(values[-1] + 5, "B") != (level - 1,):
                raise Hdf5Error("is damaged: a tree leads in circles")
            yield from self.leaves(values[-1], kind, key)

    def text(self, start: int, end: int) -> str:
        """The text from `start` to the next zero byte, which stands before `end`."""
        stop = self.file.map.find(b"\0", start, end) if start < end else -1
        if stop < 0:
            raise Hdf5Error("is damaged: a name has no end")
        try:
            return self.piece(start, stop - start).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Hdf5Error(f"has a name that is not in UTF-8: {error}") from error

    def heap_object(self, address: int, wanted: int) -> bytes:
        """A string of variable length, which stands apart from what has it.

        Args:
            address: of the global heap.
            wanted: the string's index in it.

        Raises:
            Hdf5Error: if it is not there.
        """
        if address not in self._heaps:
            self._heaps[address] = self._heap(address)
        if wanted not in self._heaps[address]:
            raise Hdf5Error("is damaged: a text is not there")
        return self.piece(*self._heaps[address][wanted])

    def _heap(self, address: int) -> dict[int, Extent]:
        """Where each object of a global heap lies."""
        signature, version, size = self.take(address, "4sB3xQ")
        if (signature, version) != (b"GCOL", 1):
            raise Hdf5Error("is damaged: a text is not there")
        objects, position = {}, address + 16
        while position + 16 <= address + size:
            index, length = self.take(position, "H6xQ")
            if index == 0:  # What follows is free.
                break
            objects[index] = Extent(position + 16, length)
            position += 16 + length + -length % 8
        return objects


def unpacked(form: str, body: bytes, offset: int = 0) -> tuple:
    """Unpack numbers out of a message.

    Args:
        form: struct format, little-endian.
        body: bytes of the message.
        offset: where they start in it.

    Raises:
        Hdf5Error: if the message ends before.

    Example:
    ```python
    unpacked("2B", bytes([1, 2, 3]), offset=1)  # (2, 3)
    ```
    """
    try:
        return struct.unpack_from("<" + form, body, offset)
    except struct.error as error:
        raise Hdf5Error("is damaged: a message ends too early") from error
