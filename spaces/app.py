"""A Space: the page of keras-makeavid, on a CPU or on ZeroGPU."""

import importlib.util
import os

os.environ.setdefault("KERAS_BACKEND", "torch")
from keras_makeavid import TextToVideo
from keras_makeavid.app import serve
from keras_makeavid.presets import DEFAULT_PRESET

on_gpu = __import__("spaces").GPU if importlib.util.find_spec("spaces") else None
names = os.environ.get("PRESETS", DEFAULT_PRESET).split()
tasks = {name: TextToVideo.from_preset(name) for name in names}
serve(tasks, host="0.0.0.0", on_gpu=on_gpu)
