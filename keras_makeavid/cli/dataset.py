"""Tell what a dataset holds, check every number of it, or convert its layout."""

from __future__ import annotations

import sys

EXAMPLE = "makeavid dataset convert tempofunk-sdance dataset --half"


def add_arguments(parser) -> None:
    """Declare the options."""
    parser.add_argument(
        "action",
        choices=("info", "check", "convert"),
        help="info: sizes; check: read all of it and name damaged clips; convert: "
        "copy it to OUT",
    )
    parser.add_argument("dataset", help="dataset folder, in either layout")
    parser.add_argument("out", nargs="?", help="folder to make, for convert")
    parser.add_argument(
        "--layout",
        choices=("sharded", "published"),
        default="sharded",
        help="what to convert to: few large files, or three files a clip",
    )
    parser.add_argument(
        "--half", action="store_true", help="convert to float16 (sharded only)"
    )
    parser.add_argument(
        "--leave-out",
        action="store_true",
        help="let check add damaged clips to failed_id_list.json, so that training "
        "leaves them out",
    )


def run(options) -> None:
    """Do what is asked for."""
    if (options.out is None) == (options.action == "convert"):
        needed = "needs" if options.action == "convert" else "takes no"
        raise ValueError(f"{options.action} {needed} OUT")
    {"info": _info, "check": _check, "convert": _convert}[options.action](options)


def _info(options):
    from keras_makeavid.data import dataset_facts, open_dataset

    for name, value in dataset_facts(open_dataset(options.dataset)).items():
        print(f"{name}: {value}")


def _check(options):
    from keras_makeavid.data import check_dataset, open_dataset
    from keras_makeavid.progress import progress_bar

    total = len(open_dataset(options.dataset))
    with progress_bar(total, "check", unit="clip") as bar:
        damaged = check_dataset(
            options.dataset, options.leave_out, lambda clip_id: bar.update(1)
        )
    for problem in damaged.values():
        print(problem, file=sys.stderr)
    if damaged and not options.leave_out:
        raise ValueError(
            f"{len(damaged)} of {total} clips are damaged; --leave-out adds them to "
            "failed_id_list.json"
        )
    left_out = f", {len(damaged)} left out from now on" if damaged else ""
    print(f"{options.dataset}: {total - len(damaged)} clips are whole{left_out}")


def _convert(options):
    from keras_makeavid.data import convert_dataset, open_dataset
    from keras_makeavid.progress import progress_bar

    total = len(open_dataset(options.dataset))
    with progress_bar(total, "convert", unit="clip") as bar:
        ids = convert_dataset(
            options.dataset,
            options.out,
            options.layout,
            options.half,
            lambda clip_id: bar.update(1),
        )
    print(f"{options.out}: {len(ids)} clips")
