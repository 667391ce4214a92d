"""What tells one set of weights from another, and whose latents a dataset holds."""

from __future__ import annotations

import hashlib
from typing import Any

import keras
import numpy as np

from keras_makeavid.data.reader import LatentReader
from keras_makeavid.layers.operations.devices import on_host

# Published datasets have no record. All that are known are of this scale.
_SD15_SCALE = 0.18215
_PARTS = {"vae": "VAE", "text_encoder": "text encoder"}


def weights_fingerprint(*models: keras.Model) -> str:
    """A name of the weights of models, whatever the backend and file they are from.

    Args:
        *models: Built models.

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
            values = np.ascontiguousarray(on_host(weight.value))
            digest.update(f"{values.dtype.name} {values.shape}".encode())
            digest.update(values.reshape(-1).view("uint8").data)
    return digest.hexdigest()[:16]


def encoder_record(vae: keras.Model, text_encoder: keras.Model) -> dict[str, Any]:
    """What a dataset records of the models that encoded a clip, as JSON knows it.

    The stored latents are to be multiplied by its `scaling_factor`.
    """
    return {
        "vae": weights_fingerprint(vae),
        "text_encoder": weights_fingerprint(text_encoder),
        "scaling_factor": float(vae.scaling_factor),
    }


def check_encoder(
    dataset: LatentReader, vae: keras.Model, text_encoder: keras.Model
) -> str | None:
    """See that a dataset was encoded by these very models.

    A dataset that does not tell, as the published ones, is taken to be of Stable
    Diffusion 1.5's VAE and text encoder.

    Args:
        dataset: An opened dataset.
        vae: The `AutoencoderKL` to train with.
        text_encoder: The `TextEncoder` to train with.

    Returns:
        A note for the user on what was assumed; `None` if nothing was.

    Raises:
        ValueError: If others encoded it; the text names both.

    Example:
    ```python
    check_encoder(open_dataset("dataset"), task.vae, task.text_encoder)
    ```
    """
    wanted = encoder_record(vae, text_encoder)
    unknown = []
    for index, clip_id in enumerate(dataset.ids):
        record = dataset.metadata(index).get("encoder")
        if not isinstance(record, dict):
            unknown.append(clip_id)
            continue
        for part, name in _PARTS.items():
            if record.get(part) != wanted[part]:
                raise ValueError(
                    f"The clips of {dataset.folder} must be encoded by the {name} "
                    f"that trains with them, {_described(wanted, part)}. Received: "
                    f"clip {clip_id} by the {name} {_described(record, part)}. Encode "
                    "them with this preset, or say allow_other_encoder=True "
                    "(--allow-other-encoder)."
                )
    if not unknown:
        return None
    if wanted["scaling_factor"] != _SD15_SCALE:
        raise ValueError(
            f"The clips of {dataset.folder} must be encoded by the VAE that trains "
            f"with them, {_described(wanted, 'vae')}. Received: clip {unknown[0]}, "
            "which tells no VAE: Stable Diffusion 1.5's is assumed, of scale "
            f"{_SD15_SCALE}. If it is this one, say allow_other_encoder=True "
            "(--allow-other-encoder)."
        )
    return (
        f"{len(unknown)} clips of {dataset.folder} do not tell what encoded them: VAE "
        "and text encoder of Stable Diffusion 1.5 are assumed."
    )


def _described(record, part):
    scale = f" (scale {record.get('scaling_factor')})" if part == "vae" else ""
    return f"{record.get(part)}{scale}"
