"""Read every number of a dataset and name the clips that are damaged."""

from __future__ import annotations

import sys

EXAMPLE = "makeavid dataset check dataset --leave-out"
USES_MODELS = False


def add_arguments(option) -> None:
    """Declare the options."""
    option("dataset", help="dataset folder, in either layout")
    option(
        "--leave-out",
        action="store_true",
        help="add damaged clips to failed_id_list.json: training leaves them out",
    )


def run(options) -> int:
    """Check, and say what is damaged; 1 if such clips were not left out."""
    from keras_makeavid.data import check_dataset, open_dataset
    from keras_makeavid.progress import progress_bar

    unopened: dict[str, str] = {}
    opened = len(open_dataset(options.dataset, damaged=unopened))
    with progress_bar(opened, "check", unit="clip") as bar:
        damaged = check_dataset(
            options.dataset, options.leave_out, lambda clip_id: bar.update(1)
        )
    for problem in damaged.values():
        print(problem, file=sys.stderr)
    outcome = "left out from now on" if options.leave_out else "damaged"
    print(
        f"{options.dataset}: {opened + len(unopened) - len(damaged)} clips are whole, "
        f"{len(damaged)} {outcome}"
    )
    return 1 if damaged and not options.leave_out else 0
