"""Time what importing keras_makeavid, all of it, costs above importing KerasHub.

    KERAS_BACKEND=jax python benchmarks/import_time.py

Both are timed in one new process each, in turn; the shortest of each counts.
"""

import json
import os
import subprocess
import sys

REPEATS = 5
# The name is lazy: asking for the task imports models, text, schedulers, video.
STATEMENTS = {
    "keras_hub": "import keras_hub",
    "keras_makeavid": "import keras_hub, keras_makeavid; keras_makeavid.TextToVideo",
}


def seconds(statement: str) -> float:
    """Time a statement in a new process."""
    code = (
        "import time; start = time.perf_counter()\n"
        f"{statement}\n"
        "print(time.perf_counter() - start)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return float(run.stdout.split()[-1])


def main():
    """Print one line of JSON."""
    times = {name: [] for name in STATEMENTS}
    for _ in range(REPEATS):
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    best = {name: min(values) for name, values in times.items()}
    result = {
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "keras_hub_seconds": round(best["keras_hub"], 2),
        "above_it_seconds": round(best["keras_makeavid"] - best["keras_hub"], 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
