"""Models whose weights come from files, none drawn before, and may be in int8."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import keras
import keras_hub
from keras_hub.src.utils.preset_utils import check_file_exists, load_json

from keras_makeavid.json_files import read_object
from keras_makeavid.layers.dense import Dense
from keras_makeavid.layers.int8 import EXACT, MODE, Int8Kernel, int8_policy
from keras_makeavid.layers.operations.products import kernels_without_values
from keras_makeavid.presets import preset_folder

# KerasHub's `from_preset` puts further arguments into the config that it passes to
# `from_config`: by this one, our `from_preset` tells our `from_config` to draw nothing.
WEIGHTS_FOLLOW = "weights_follow"
_PRESET_FILES = ("metadata.json", "config.json", "task.json", "preprocessor.json")
Made = TypeVar("Made")


def without_weights(make: Callable[[], Made]) -> Made:
    """Call `make` such that the variables of Keras models it makes have no values.

    Under JAX they can be assigned to; under others a variable is its memory.
    """
    results, errors = [], []
    policy = keras.config.dtype_policy()

    def run():
        # Keras's settings are those of a thread.
        keras.config.set_dtype_policy(policy)
        try:
            with keras.StatelessScope(initialize_variables=False):
                results.append(make())
        except Exception as error:
            errors.append(error)

    # Keras keeps a list, of its thread, of variables to be given values later on.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def check_weights_file(path: Any) -> None:
    """Refuse damaged `.h5` files, or those of an index: libhdf5 may crash on them."""
    from weights_tools.formats import open_tensors

    path = Path(path)
    files = path.parent.glob("*.weights.h5") if path.suffix == ".json" else [path]
    for file in files:
        if file.suffix == ".h5" and file.is_file():
            with open_tensors(file):
                pass


class FromPreset:
    """Makes `from_preset` of a KerasHub class draw no weights only to load others.

    It is half of the time under PyTorch; under JAX each shape would be compiled first.
    Files of weights are checked before Keras reads them.
    """

    def load_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        check_weights_file(filepath)
        parent: Any = super()
        return parent.load_weights(filepath, *args, **kwargs)

    @classmethod
    def from_preset(cls, preset: str, load_weights: bool = True, **kwargs: Any):
        """Make the model of a preset.

        Args:
            preset: Name of a preset of the package, a folder, `hf://owner/name`, with
                `@revision` if need be, or another handle as KerasHub takes them.
            load_weights: Whether to load its weights; `False` draws new ones.
            **kwargs: As those of KerasHub's method, such as `dtype`.

        Raises:
            ValueError: If there is no such preset, or it is damaged.
        """
        # KerasHub knows no revisions, and would not name the file that is damaged.
        preset = preset_folder(preset)
        for name in _PRESET_FILES:
            if os.path.exists(file := os.path.join(preset, name)):
                read_object(file)
        # The KerasHub class that this mixin is combined with.
        parent: Any = super()
        if issubclass(cls, keras_hub.models.Backbone) and kwargs.get("dtype") is None:
            # KerasHub forgets that weights are in int8, but of a task's backbone.
            kwargs["dtype"] = int8_policy_of(preset)
        # Shards of a distributed weight are made where they belong, by Keras.
        is_whole = keras.distribution.distribution() is None
        is_read = load_weights and kwargs.get("load_task_weights", True)
        if not (is_read and is_whole):
            return parent.from_preset(preset, load_weights=load_weights, **kwargs)
        model = parent.from_preset(preset, **{**kwargs, WEIGHTS_FOLLOW: True})
        if keras.config.backend() == "jax":
            for variable in model.variables:
                # Those that no file has, such as the state of a seed.
                variable.assign(variable.value)
        return model

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        config = dict(config)
        if not config.pop(WEIGHTS_FOLLOW, False):
            parent: Any = super()
            return parent.from_config(config)
        if keras.config.backend() == "jax":
            return without_weights(lambda: cls.from_config(config))
        with kernels_without_values():
            return cls.from_config(config)


class Int8Backbone(FromPreset, keras_hub.models.Backbone):
    """What quantizes a model of this package, and tells of it in its configuration."""

    def quantize(self, mode: str = MODE, config: Any = None, **kwargs: Any) -> None:
        """Round the kernels of dense and convolution layers to int8.

        They take a quarter of the memory of float32. A few, which matter most, stay as
        they are (`keras_makeavid.layers.int8.EXACT`). Computation stays as it is: each
        kernel is widened where it is used. Kernels do not train any more, adapters do.

        The mode is `"int8"`; any other, and Keras's further options such as `filters`,
        are a `ValueError`: configurations say int8 of all layers or of none.

        Example:
        ```python
        unet.quantize("int8")
        unet.save_to_preset("unet_int8")
        ```
        """
        if mode != MODE or kwargs:
            options = "".join(f", {key}={value!r}" for key, value in kwargs.items())
            expected = 'quantize takes the mode "int8", for all layers'
            raise ValueError(f"{expected}. Received: mode={mode!r}{options}")
        for layer in self._kernels():
            if layer.quantization_mode is None:
                layer.quantize(MODE)
        if keras.config.backend() == "torch":
            for layer in self._flatten_layers():
                layer._track_variables()

    def _kernels(self) -> Iterator[Any]:
        return (
            layer
            for layer in self._flatten_layers()
            if isinstance(layer, Dense)
            or (
                isinstance(layer, Int8Kernel)
                and EXACT.isdisjoint(layer.path.split("/"))
            )
        )

    def get_config(self) -> dict[str, Any]:
        if all(layer.quantization_mode is None for layer in self._kernels()):
            return super().get_config()
        # KerasHub would list each layer.
        dtype = keras.dtype_policies.serialize(int8_policy(self.dtype_policy))
        return {"name": self.name, "trainable": self.trainable, "dtype": dtype}


def int8_policy_of(preset: str) -> keras.DTypePolicy | None:
    """The dtype policy of a preset with weights in int8; `None` of any other."""
    if not check_file_exists(preset, "config.json"):
        return None
    file = os.path.join(preset, "config.json")
    config = read_object(file) if os.path.exists(file) else load_json(preset)
    settings = config.get("config")
    saved = settings.get("dtype") if isinstance(settings, dict) else None
    if isinstance(saved, dict) and "mode" in saved["config"]:
        return keras.dtype_policies.get(saved)
    return None
