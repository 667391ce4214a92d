"""What fits where: the published training, and full fine-tuning, on slices of TPUs.

`python benchmarks/what_fits.py` prints a table; each row is one compilation of many
minutes, which the second run finds in JAX's cache. `--only v4-8` prints some rows;
`--scaling` compiles one setting for 4 to 256 chips instead, as CSV.
"""

from __future__ import annotations

import argparse
import os

os.environ["KERAS_BACKEND"] = "jax"
_CACHE = os.path.expanduser("~/.cache/keras_makeavid/jax")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE)

from keras_makeavid.planning import (  # noqa: E402
    Plan,
    find_topology,
    plan_as_json,
    plan_training,
)
from keras_makeavid.recipes import load_recipe  # noqa: E402

_WIDEST = "model.rematerialise=feed_forward"
_ALL = ["stage.*.trainable=all", "optimizer.ema=0.9999", "model.rematerialise=true"]
# Training, topology, settings, samples on each chip.
ROWS = (
    ("temporal", "v4-8", [_WIDEST], 1),
    ("all, averages", "v4-8", [*_ALL, "distribution.fsdp=4"], 1),
    ("all, averages", "v4-32", [*_ALL, "distribution.fsdp=16"], 2),
    ("all, averages", "v5p-32", [*_ALL, "distribution.fsdp=16"], 8),
    ("all, averages", "v6e-16", [*_ALL, "distribution.fsdp=16"], 2),
)
SCALING = ("v4-8", "v4-16", "v4-32", "v4-64", "v4-128", "v4-256", "v4-512")
_HEADER = (
    "| training | topology | settings | batch a chip | state | temporaries | of | fits "
    "| TFLOP | GB moved | GB sent | s a step, at least |"
)


def planned(topology: str, settings: list[str], batch_per_chip: int) -> Plan:
    """The plan of a row.

    Args:
        topology: name of a slice.
        settings: keys of the recipe that differ.
        batch_per_chip: samples on each chip.
    """
    recipe = load_recipe("tempofunk", settings)
    return plan_training(recipe, find_topology(topology), batch_per_chip=batch_per_chip)


def row(training: str, topology: str, settings: list[str], batch: int) -> str:
    """A row of the table, its memory in GiB."""
    numbers = plan_as_json(planned(topology, settings, batch))

    def shown(key, digits=1):
        return "" if numbers[key] is None else f"{numbers[key]:.{digits}f}"

    cells = [
        training,
        topology,
        "<br>".join(f"`{setting}`" for setting in settings),
        str(batch),
        shown("state_gib"),
        shown("temporaries_gib"),
        shown("hbm_of_chip_gib", 2),
        "yes" if numbers["fits"] else f"no: {shown('hbm_gib')}",
        shown("tflop"),
        shown("gb_moved", 0),
        shown("collective_gb", 2),
        shown("step_seconds_estimate", 3),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table, or the scaling."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="rows of this topology")
    parser.add_argument("--scaling", action="store_true", help="of v4, 4 to 256 chips")
    options = parser.parse_args()
    if options.scaling:
        print("chips,step_seconds,collective_gb")
        for topology in SCALING:
            numbers = plan_as_json(planned(topology, [_WIDEST], 1))
            keys = ("chips", "step_seconds_estimate", "collective_gb")
            print(*(numbers[key] for key in keys), sep=",", flush=True)
        return
    print(_HEADER)
    print("|---" * _HEADER.count(" | ") + "|---|")
    for training, topology, settings, batch in ROWS:
        if options.only in (None, topology):
            print(row(training, topology, settings, batch), flush=True)


if __name__ == "__main__":
    main()
