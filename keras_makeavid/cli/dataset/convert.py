"""Copy a dataset into another layout: few large files, or three files a clip."""

from __future__ import annotations

from keras_makeavid.cli.options import add_layout_options

EXAMPLE = "makeavid dataset convert tempofunk-sdance dataset --half"
USES_MODELS = False


def add_arguments(option) -> None:
    """Declare the options."""
    option("dataset", help="dataset folder, in either layout")
    option("out", help="folder to make")
    add_layout_options(option)


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
