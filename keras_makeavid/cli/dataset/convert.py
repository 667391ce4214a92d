"""Copy a dataset into another layout: few large files, or three files a clip."""

from __future__ import annotations

EXAMPLE = "makeavid dataset convert tempofunk-sdance dataset --half"
USES_MODELS = False


def add_arguments(option) -> None:
    """Declare the options."""
    option("dataset", help="dataset folder, in either layout")
    option("out", help="folder to make")
    option(
        "--layout",
        choices=("sharded", "published"),
        default="sharded",
        help="few large files, or TempoFunk's three files a clip",
    )
    option("--half", action="store_true", help="store float16 (sharded layout only)")


def run(options) -> None:
    """Convert."""
    from keras_makeavid.data import convert_dataset, open_dataset
    from keras_makeavid.progress import progress_bar

    dataset = open_dataset(options.dataset)
    with progress_bar(len(dataset), "convert", unit="clip") as bar:
        convert_dataset(
            dataset,
            options.out,
            options.layout,
            options.half,
            lambda clip_id: bar.update(1),
        )
    print(f"{options.out}: {len(dataset)} clips")
