"""Backbones whose dense and convolution layers can be in int8."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import keras_hub

from keras_makeavid.layers.dense import Dense
from keras_makeavid.layers.int8 import EXACT, MODE, Int8Kernel, int8_policy
from keras_makeavid.models.loading import FromPreset


class Int8Backbone(FromPreset, keras_hub.models.Backbone):
    """What quantizes a model of this package, and tells of it in its configuration."""

    def quantize(self, mode: str = MODE, config: Any = None, **kwargs: Any) -> None:
        """Round the kernels of dense and convolution layers to int8.

        They take a quarter of the memory of float32. A few, which matter most, stay as
        they are (`keras_makeavid.layers.int8.EXACT`). Computation stays as it is: each
        kernel is widened where it is used. Kernels do not train any more, adapters do.

        Args:
            mode: `"int8"`.
            config: Must not say anything beyond the mode, as Keras's wrapper does not.
            **kwargs: None; Keras's `filters` are not for these models, whose
                configurations say int8 of all layers or of none.

        Raises:
            ValueError: If there is another mode or option.

        Example:
        ```python
        unet.quantize("int8")
        unet.save_to_preset("unet_int8")
        ```
        """
        if mode != MODE or kwargs:
            options = "".join(f", {key}={value!r}" for key, value in kwargs.items())
            raise ValueError(
                'quantize takes the mode "int8", for all layers. '
                f"Received: mode={mode!r}{options}"
            )
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
        policy = int8_policy(self.dtype_policy)
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(policy),
        }
