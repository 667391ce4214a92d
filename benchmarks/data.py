"""Measure how fast training batches are read from disk, against a step's demand.

    python benchmarks/data.py --gigabytes 10 --step-seconds 1.6

Makes a dataset of clips of the published size (120 frames of 64 x 64 x 4 and text
states of 77 x 768, float32), empties the page cache of it before each measurement,
and reads batches of random windows as training does, shuffled over all of it. Prints
a line of JSON for each number of worker processes; `demand_ratio` is how many times
faster batches come than steps of `--step-seconds` take them. The dataset is deleted
in the end.
"""

import argparse
import itertools
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from keras_makeavid.data import LatentClip, LatentLoader, ShardedWriter
from keras_makeavid.data.published import write_published

FRAMES = 120
CONTEXT = (77, 768)


def make_dataset(folder: Path, options: argparse.Namespace) -> None:
    """Write clips of noise until they take the gigabytes asked for."""
    random = np.random.default_rng(0)
    frames = (FRAMES, options.latent_size, options.latent_size, 4)
    noise = random.standard_normal((2 * FRAMES, *frames[1:]), "float32")
    context = random.standard_normal(CONTEXT, "float32")
    clip_bytes = 4 * (np.prod(frames) + np.prod(CONTEXT)) // (1 + options.half)

    def clips():
        for number in range(int(options.gigabytes * 1e9 / clip_bytes)):
            # Other bytes each time, for less than new noise would take.
            first = number % FRAMES
            latents = noise[first : first + FRAMES] + np.float32(number)
            yield LatentClip(f"clip{number}", latents, context, {"caption": "noise"})

    if options.layout == "published":
        write_published(folder, clips())
        return
    writer = ShardedWriter(folder, options.half)
    for clip in clips():
        writer.add(clip)
    writer.finish()


def empty_page_cache(folder: Path) -> None:
    """Let the next read of the files of a folder come from the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_read_from_disk() -> int:
    """What this process and its ended children have read from disks."""
    fields = Path("/proc/self/io").read_text().split()
    return int(fields[fields.index("read_bytes:") + 1])


def measure(folder: Path, options: argparse.Namespace, num_workers: int) -> dict:
    """Time batches after the first, which starts the workers."""
    opening = time.perf_counter()
    loader = LatentLoader(
        folder,
        batch_size=options.batch_size,
        num_frames=options.frames,
        num_workers=num_workers,
    )
    opening = time.perf_counter() - opening
    empty_page_cache(folder)
    batches = loader.batches()
    first = time.perf_counter()
    next(batches)
    start = time.perf_counter()
    disk = bytes_read_from_disk()
    for _ in itertools.islice(batches, options.batches):
        pass
    seconds = time.perf_counter() - start
    disk = bytes_read_from_disk() - disk
    batches.close()
    window = options.frames * options.latent_size**2 * 4 + np.prod(CONTEXT)
    read = (
        options.batches * options.batch_size * int(window) * (2 if options.half else 4)
    )
    return {
        "workers": num_workers,
        "batches_per_second": round(options.batches / seconds, 1),
        "megabytes_per_second": round(read / seconds / 1e6),
        "demand_ratio": round(options.batches / seconds * options.step_seconds, 1),
        "seconds_to_open": round(opening, 2),
        "seconds_to_first_batch": round(start - first, 2),
        # Of worker processes the system does not tell.
        "share_read_from_disk": None if num_workers else round(disk / read, 2),
    }


def main():
    """Make the dataset, measure and delete it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--latent-size", type=int, default=64, help="pixels a side")
    parser.add_argument("--layout", choices=("sharded", "published"), default="sharded")
    parser.add_argument("--half", action="store_true", help="stored as float16")
    parser.add_argument("--frames", type=int, default=24, help="of a window")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--batches", type=int, default=1000, help="to measure")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--step-seconds", type=float, default=1.6)
    parser.add_argument("--folder", help="to make the dataset in; a temporary one")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        dataset = Path(folder) / "dataset"
        start = time.perf_counter()
        make_dataset(dataset, options)
        size = sum(p.stat().st_size for p in dataset.rglob("*") if p.is_file())
        made = round(time.perf_counter() - start)
        shape = {**vars(options), "bytes": size, "seconds_to_make": made}
        print(json.dumps(shape), flush=True)
        for num_workers in options.workers:
            print(json.dumps(measure(dataset, options, num_workers)), flush=True)


if __name__ == "__main__":
    main()
