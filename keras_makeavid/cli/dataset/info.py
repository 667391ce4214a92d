"""Tell how many clips and frames a dataset holds, and of which sizes."""

from __future__ import annotations

EXAMPLE = "makeavid dataset info dataset"
USES_MODELS = False


def add_arguments(option) -> None:
    """Declare the options."""
    option("dataset", help="dataset folder, in either layout")


def run(options) -> None:
    """Print one fact a line."""
    from keras_makeavid.data import dataset_facts, open_dataset

    for name, value in dataset_facts(open_dataset(options.dataset)).items():
        print(f"{name}: {value}")
