"""Golden tensors of the original implementation, and their weights by recipe.

`data/README.md` says what the files hold. Everything that leaves this module is
channels-last.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors

import weights_tools
from keras_makeavid.models import UNetPseudo3D
from weights_tools.layouts import get_layout

DATA = Path(__file__).parent / "data"


def read(name: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors, in the original's axis order, and metadata of a golden file."""
    with safetensors.safe_open(DATA / f"{name}.safetensors", "np") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def channels_last(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


def weights(seed: int, shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """The weights that the recipe gives for these names, in PyTorch's layout."""
    random = np.random.RandomState(seed)
    made = {}
    for name in sorted(shapes):
        shape = shapes[name]
        value = random.standard_normal(shape)
        if len(shape) >= 2:
            value = value / np.sqrt(np.prod(shape[1:]))
        else:
            value = 0.1 * value + name.endswith("weight")
        made[name] = value.astype("float32")
    return made


@functools.cache
def _layers():
    return read("layers")


def layer_inputs(tag: str) -> list[np.ndarray]:
    """The inputs of one case of `layers.safetensors`."""
    tensors, _ = _layers()
    inputs = [channels_last(tensors[f"{tag}.input0"])]
    if f"{tag}.input1" in tensors:
        inputs.append(tensors[f"{tag}.input1"])
    return inputs


def layer_output(tag: str) -> np.ndarray:
    tensors, _ = _layers()
    return channels_last(tensors[f"{tag}.output"])


def load_layer(layer, tag: str) -> None:
    """Load the weights of one case of `layers.safetensors` into a built layer."""
    _, metadata = _layers()
    tensors = weights(**json.loads(metadata[tag]))
    layout = get_layout("unet", "makeavid_torch")
    for variable in layer.variables:
        path = variable.path.split("/", 1)[1]
        tensor = tensors.pop(layout.tensor_name(path))
        variable.assign(layout.from_layout(path, tensor, variable.shape))
    assert not tensors


@dataclass(frozen=True)
class UNetCase:
    """One of the three UNet files."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]

    @property
    def config(self) -> dict:
        return json.loads(self.metadata["config"])

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        return {
            "sample": channels_last(self.tensors["sample"]),
            "timesteps": self.tensors["timesteps"],
            "context": self.tensors["encoder_hidden_states"],
        }

    def output(self, gelu: str) -> np.ndarray:
        suffix = {"exact": "erf", "tanh": "tanh"}[gelu]
        return channels_last(self.tensors[f"output.gelu_{suffix}"])

    def weights(self) -> dict[str, np.ndarray]:
        seed, shapes = (json.loads(self.metadata[k]) for k in ("seed", "shapes"))
        return weights(seed, shapes)

    def unet(self, **own) -> UNetPseudo3D:
        """The model of this case; `own` keys override its config."""
        unet = weights_tools.unet_from_diffusers_config({**self.config, **own})
        weights_tools.load_weights(unet, self.weights())
        return unet


@functools.cache
def unet_case(name: str) -> UNetCase:
    """The case `"unet_video"`, `"unet_video_nonsquare"` or `"unet_image"`."""
    return UNetCase(*read(name))
