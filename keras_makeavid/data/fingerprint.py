"""What tells one set of weights from another."""

from __future__ import annotations

import hashlib

import keras
import numpy as np


def weights_fingerprint(*models: keras.Model) -> str:
    """A name of the weights of models, whatever the backend and file they are from.

    Args:
        *models: built models.

    Returns:
        16 hexadecimal digits of the SHA-256 of shapes, dtypes and values.

    Example:
        ```python
        weights_fingerprint(task.vae, task.text_encoder)  # "93a3c1..."
        ```
    """
    digest = hashlib.sha256()
    for model in models:
        for weight in model.weights:
            values = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
            digest.update(f"{values.dtype.name} {values.shape}".encode())
            digest.update(values.reshape(-1).view("uint8"))
    return digest.hexdigest()[:16]
