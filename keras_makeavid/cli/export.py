"""Write a model for runtimes that need no Keras, with a script that runs it."""

import importlib.util

from keras_makeavid.cli.options import check_at_least_one

EXAMPLE = "makeavid export makeavid_motions_small exported --format onnx"
# Under which backend each is written; `keras_makeavid.exporting` says it too, which the
# choice of the backend cannot wait for.
_BACKENDS = {
    **{"onnx": "torch", "openvino": "torch"},
    **{"saved_model": "tensorflow", "litert": "tensorflow"},
}


def add_arguments(option) -> None:
    """Declare the options."""
    option("preset", help="folder or handle of a preset")
    option("out", help="folder to write")
    option("--format", choices=_BACKENDS, default="onnx", help="of which runtime")
    precisions = ("float32", "float16", "int8")
    option("--precision", choices=precisions, default="float32", help="of the weights")
    option("--scheduler", default="dpm++2m", help="sampler, one without noise in steps")
    option("--frames", type=int, help="number of frames; the preset's if not given")
    option("--height", type=int, help="in pixels, likewise")
    option("--width", type=int, help="in pixels, likewise")


def prepare(options) -> None:
    """Take the backend that the format is written under."""
    check_at_least_one(options, "frames")
    needed = {"onnx": "onnxruntime", "openvino": "openvino"}.get(options.format)
    if needed and importlib.util.find_spec(needed) is None:
        problem = f"The format {options.format} needs {needed}"
        raise ImportError(f"{problem}: pip install 'keras-makeavid[export]'")
    options.backend = options.backend or _BACKENDS[options.format]


def run(options) -> None:
    """Print the command that makes a video of what was written."""
    from keras_makeavid.exporting import export

    parts = export(
        options.preset,
        options.out,
        options.format,
        precision=options.precision,
        scheduler=options.scheduler,
        num_frames=options.frames,
        height=options.height,
        width=options.width,
    )
    print(f"{options.out}: {', '.join(parts)} for {options.format}, and run.py:")
    print(f'python {options.out}/run.py "a red star moving left" star.png --seed 7')
