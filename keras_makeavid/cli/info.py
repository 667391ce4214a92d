"""Say what is installed, or what a preset, dataset or video file holds."""

import importlib.metadata
from pathlib import Path

from keras_makeavid.json_files import read_object
from keras_makeavid.presets import is_preset, preset_folder

EXAMPLE = "makeavid info clips/cat.mp4"
USES_MODELS = False

_PACKAGES = (
    *("keras-makeavid", "keras", "keras-hub", "jax", "torch", "tensorflow"),
    *("tokenizers", "opencv-python", "av"),
)


def add_arguments(option) -> None:
    """Declare the options."""
    option(
        "path",
        nargs="?",
        help="preset, its folder or its name, dataset folder or video file; the "
        "installation if not given",
    )


def run(options) -> None:
    """Print one fact a line."""
    path = None if options.path is None else Path(preset_folder(options.path))
    if path is None:
        facts = _installation()
    elif not path.exists():
        raise FileNotFoundError(f"There is nothing at {path}")
    elif is_preset(path):
        facts = _preset(path)
    elif path.is_dir():
        from keras_makeavid.data import dataset_facts, open_dataset

        facts = dataset_facts(open_dataset(path))
    else:
        from keras_makeavid.video import probe

        facts = vars(probe(path))
    for name, value in facts.items():
        print(f"{name}: {value}")


def _installation():
    import keras

    facts = {}
    for package in _PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    backend = keras.backend.backend()
    return {**facts, "backend": backend, "devices": ", ".join(_devices(backend))}


def _devices(backend):
    import keras

    if backend == "torch":
        # Keras lists none under torch: this is the one that it puts tensors on.
        return [str(keras.ops.zeros(()).device)]
    return keras.distribution.list_devices() or ["cpu"]


def _preset(folder):
    metadata = read_object(folder / "metadata.json")
    config = read_object(folder / "config.json")
    try:
        parameters = f"{metadata['parameter_count']:,}"
        facts = {"class": config["class_name"], "parameters": parameters}
        return facts | config["config"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} is no preset of ours: {error!r}") from error
