"""A Space: the page of keras-makeavid, on a CPU or on ZeroGPU."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
try:
    # On ZeroGPU it has to come before PyTorch.
    from spaces import GPU
except ImportError:
    GPU = None
from keras_makeavid import TextToVideo
from keras_makeavid.app import serve
from keras_makeavid.presets import DEFAULT_PRESET

names = os.environ.get("PRESETS", DEFAULT_PRESET).split()
tasks = {name: TextToVideo.from_preset(name) for name in names}
serve(tasks, host="0.0.0.0", on_gpu=GPU)
