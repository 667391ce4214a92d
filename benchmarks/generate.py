"""Time `makeavid generate` as a user waits for it: the wall time of the whole process.

    KERAS_BACKEND=jax python benchmarks/generate.py

The command is `makeavid generate "a red star moving left" --no-few-steps`, in an empty
folder: import, loading, compilation, 20 steps, MP4 and contact sheet. `first`
finds no compiled programs, `later` the ones that the first has kept; the shortest of
`--repeats`. Only JAX keeps its programs: with the others both do the same.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time


def seconds_of(cache: str) -> float:
    """Wall time of one run in an empty folder, with compiled programs in `cache`."""
    command = [sys.executable, "-m", "keras_makeavid", "generate"]
    environment = {**os.environ, "XDG_CACHE_HOME": cache}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(
            [*command, "a red star moving left", "--no-few-steps"],
            cwd=folder,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - start


def main():
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    backend = os.environ.setdefault("KERAS_BACKEND", "jax")
    with tempfile.TemporaryDirectory() as cache:
        first = seconds_of(cache)
        later = min(seconds_of(cache) for _ in range(options.repeats))
    result = {
        "backend": backend,
        "first_seconds": round(first, 1),
        "later_seconds": round(later, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
