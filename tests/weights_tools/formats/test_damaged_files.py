"""Any damage to a file of any format ends in a clean error or in tensors.

Everything that reads these files is Python of this package (and `zlib`, bounded), so a
crash of this process would be its own detection; libhdf5 and torch see none of them.
"""

import random
import time
import tracemalloc
from contextlib import suppress

import pytest

from weights_tools.formats import FormatError, open_tensors

MUTATIONS = 700
# Numbers that lengths, counts and offsets break on.
EDGES = [0, 1, 7, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]


def mutated(content, generator):
    """`content` with one to four damages, most of them near what is not zero."""
    content = bytearray(content)
    used = [index for index, byte in enumerate(content) if byte]
    for _ in range(generator.choice([1, 1, 2, 4])):
        at = max(0, generator.choice(used) + generator.randrange(-2, 3))
        at = min(at, max(0, len(content) - 1))
        damage = generator.choice(
            [flip, cut, insert, delete, edit_number, step, repeat]
        )
        damage(content, at, generator)
    return bytes(content)


def flip(content, at, generator):
    content[at : at + 1] = bytes(
        b ^ 1 << generator.randrange(8) for b in content[at:][:1]
    )


def cut(content, at, generator):
    del content[at:]


def insert(content, at, generator):
    content[at:at] = generator.randbytes(generator.randrange(1, 9))


def delete(content, at, generator):
    del content[at : at + generator.randrange(1, 9)]


def edit_number(content, at, generator):
    size = generator.choice([1, 2, 4, 8])
    number = generator.choice(EDGES) % 256**size
    content[at : at + size] = number.to_bytes(size, generator.choice(["little", "big"]))


def step(content, at, generator):
    size = generator.choice([1, 2, 4, 8])
    number = int.from_bytes(content[at : at + size], "little")
    number = (number + generator.choice([-8, -1, 1, 8])) % 256**size
    content[at : at + size] = number.to_bytes(size, "little")


def repeat(content, at, generator):
    start = generator.randrange(len(content) + 1)
    content[at:at] = content[start : start + generator.randrange(1, 40)]


def read_all(path):
    with open_tensors(path) as file:
        for name, spec in file.specs.items():
            array = file.read(name)
            assert (array.shape, array.dtype.name) == spec
            assert len(array.tobytes()) == spec.nbytes


def test_damage_of_every_kind_ends_in_a_clean_error_or_in_tensors(real_file):
    generator = random.Random(real_file.name)
    content = real_file.read_bytes()
    read_all(real_file)
    errors = 0
    for _ in range(MUTATIONS):
        real_file.write_bytes(mutated(content, generator))
        started = time.monotonic()
        try:
            read_all(real_file)
        except (FormatError, FileNotFoundError) as error:
            errors += 1
            assert len(str(error)) < 2000
        assert time.monotonic() - started < 5
    assert MUTATIONS / 4 < errors < MUTATIONS


def test_no_damage_makes_it_take_much_memory(real_file):
    generator = random.Random(real_file.name)
    content = real_file.read_bytes()
    tracemalloc.start()
    try:
        for _ in range(100):
            real_file.write_bytes(mutated(content, generator))
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            with suppress(FormatError, FileNotFoundError):
                read_all(real_file)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < len(content) + 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("keep", [1, 8, 16, 64, 200])
def test_a_file_that_ends_too_early_is_never_read(real_file, keep):
    real_file.write_bytes(real_file.read_bytes()[:keep])
    with pytest.raises(FormatError, match=real_file.name):
        open_tensors(real_file)
