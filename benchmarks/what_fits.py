"""What fits where: the published training, and full fine-tuning, on slices of TPUs.

`python benchmarks/what_fits.py` prints a table. Each row is one `makeavid plan`, which
compiles for a quarter of an hour or more and takes 24 GB or more. `--only v4-8` prints
the rows of one topology. `--plans FOLDER` keeps what `makeavid plan --json` says, and
`--from FOLDER` prints the table from kept plans and compiles nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

_WIDEST = "model.rematerialise=feed_forward"
_ALL = ["stage.*.trainable=all", "optimizer.ema=0.9999", "model.rematerialise=true"]
# Over all of 16 chips, a sample takes 28 GiB of temporaries where this takes 8.
_ALL += ["distribution.fsdp=4"]
# Training, topology, settings, samples on each chip.
ROWS = (
    ("temporal", "v4-8", [_WIDEST], 1),
    ("all, averages", "v4-8", _ALL, 1),
    ("all, averages", "v4-32", _ALL, 2),
    ("all, averages", "v5p-32", _ALL, 8),
    ("all, averages", "v6e-16", _ALL, 6),
)
_HEADER = (
    "| training | topology | settings | batch a chip | planned | state | temporaries "
    "| of | fits | TFLOP | GB moved | s a step, at least |"
)


def planned(
    topology: str,
    settings: list[str],
    batch_per_chip: int,
    out: Path | None = None,
) -> dict[str, Any]:
    """The numbers of a row.

    Args:
        topology: name of a slice.
        settings: keys of the recipe that differ.
        batch_per_chip: samples on each chip.
        out: file to write them to, with the command.
    """
    words = [sys.executable, "-m", "keras_makeavid", "plan", "tempofunk"]
    words += ["--topology", topology, "--batch-per-chip", str(batch_per_chip)]
    words += ["--program", "training", "--json"]
    for setting in settings:
        words += ["--set", setting]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(words, stdout=subprocess.PIPE, env=environment, check=True)
    numbers = json.loads(done.stdout.splitlines()[-1])
    if out is not None:
        command = shlex.join(["makeavid", *words[3:]])
        text = json.dumps({"command": command, **numbers}, indent=2)
        out.write_text(f"{text}\n")
    return numbers


def kept_name(training: str, topology: str) -> str:
    """The name of the file of a row's plan, without its suffix."""
    return f"{training.split(',')[0]}_{topology}"


def read_kept(folder: Path, name: str) -> dict[str, Any]:
    """A kept plan, compiled whole or, by an earlier version, scheduled only."""
    path = folder / f"{name}.json"
    if not path.exists():
        path = folder / f"{name}_scheduled.json"
    return json.loads(path.read_text(encoding="utf-8"))


def table_row(training: str, settings: list[str], numbers: dict[str, Any]) -> str:
    """A row of the table, its memory in GiB.

    Args:
        training: What trains.
        settings: Keys of the recipe that differ.
        numbers: What `makeavid plan --json` says.
    """

    def shown(key, digits=1):
        return "" if numbers[key] is None else f"{numbers[key]:.{digits}f}"

    cells = [
        training,
        numbers["topology"],
        "<br>".join(f"`{setting}`" for setting in settings),
        str(numbers["batch_per_chip"]),
        "scheduled" if "scheduled_by" in numbers else "compiled",
        shown("state_gib"),
        shown("temporaries_gib"),
        shown("hbm_of_chip_gib", 2),
        "yes" if numbers["fits"] else f"no: {shown('hbm_gib')}",
        shown("tflop_in_all"),
        shown("gb_moved", 0),
        shown("step_seconds_estimate", 3),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="rows of this topology")
    parser.add_argument(
        "--from",
        dest="kept",
        type=Path,
        help="folder of plans to print",
    )
    parser.add_argument("--plans", type=Path, help="folder for the plans of the rows")
    options = parser.parse_args()
    print(_HEADER)
    print("|---" * _HEADER.count(" | ") + "|---|")
    for training, topology, settings, batch in ROWS:
        if options.only not in (None, topology):
            continue
        name = kept_name(training, topology)
        if options.kept is not None:
            numbers = read_kept(options.kept, name)
        else:
            out = options.plans and options.plans / f"{name}.json"
            numbers = planned(topology, settings, batch, out)
        print(table_row(training, settings, numbers), flush=True)


if __name__ == "__main__":
    main()
