"""Write a model for runtimes that need no Keras, with a script that runs it."""

import importlib.util

EXAMPLE = "makeavid export makeavid_motions_small exported --format onnx"
# As `keras_makeavid.exporting` says, for which the choice of a backend cannot wait.
_BACKENDS = dict.fromkeys(("onnx", "openvino"), "torch")
_BACKENDS |= dict.fromkeys(("saved_model", "litert"), "tensorflow")


def add_arguments(option) -> None:
    """Declare the options."""
    option("preset", help="folder or handle of a preset")
    option("out", help="folder to write")
    option("--format", choices=_BACKENDS, default="onnx", help="of which runtime")
    precisions = ("float32", "float16", "int8")
    option("--precision", choices=precisions, default="float32", help="of the weights")
    option("--scheduler", help="sampler, one without noise in steps; else the preset's")


def prepare(options) -> None:
    """Take the backend that the format is written under."""
    needed = {"onnx": "onnxruntime", "openvino": "openvino"}.get(options.format)
    if needed and importlib.util.find_spec(needed) is None:
        problem = f"The format {options.format} needs {needed}"
        raise ImportError(f"{problem}: pip install 'keras-makeavid[export]'")
    options.backend = options.backend or _BACKENDS[options.format]


def run(options) -> None:
    """Print the command that makes a video of what was written."""
    from keras_makeavid.exporting import export

    how = {"precision": options.precision, "scheduler": options.scheduler}
    export(options.preset, options.out, options.format, **how)
    print(f'python {options.out}/run.py "a red star moving left" star.png --seed 7')
