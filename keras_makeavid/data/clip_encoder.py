"""The models that encode clips, and what a dataset records of them."""

import hashlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_makeavid.compilation import compile_inference
from keras_makeavid.data.reader import LatentReader
from keras_makeavid.devices import gathered

# Of published datasets, which have no record.
_SD15_SCALE = 0.18215
_PARTS = {"vae": "VAE", "text_encoder": "text encoder"}


class ClipEncoder:
    """The models that encode clips, and their `encoder_record` as `fingerprint`."""

    def __init__(
        self,
        vae: keras.Model,
        text_encoder: keras.Model,
        tokenize: Callable[[str], np.ndarray],
        chunk_size: int = 1,
    ):
        self._vae = vae
        self._chunk_size = chunk_size
        self._tokenize = tokenize
        self._encode_text = compile_inference(
            lambda token_ids: text_encoder({"token_ids": token_ids}), [text_encoder]
        )
        self.fingerprint = encoder_record(vae, text_encoder)

    def encode(self, frames: np.ndarray, caption: str) -> tuple[np.ndarray, np.ndarray]:
        """Encode frames `(F, H, W, 3)`, uint8, and a caption for a `LatentClip`."""
        # Datasets hold latents that are not scaled; training scales them.
        latents = self._vae.encode_video(frames, self._chunk_size)
        latents /= self._vae.scaling_factor
        states = self._encode_text(self._tokenize(caption))
        states = keras.ops.convert_to_numpy(keras.ops.cast(states, "float32"))
        return latents.astype("float32"), states[0]


def weights_fingerprint(*models: keras.Model) -> str:
    """16 hexadecimal digits of the SHA-256 of weights' shapes, dtypes and values."""
    digest = hashlib.sha256()
    for model in models:
        for weight in model.weights:
            values = np.ascontiguousarray(gathered(weight.value))
            digest.update(f"{values.dtype.name} {values.shape}".encode())
            digest.update(values.reshape(-1).view("uint8").data)
    return digest.hexdigest()[:16]


def encoder_record(vae: keras.Model, text_encoder: keras.Model) -> dict[str, Any]:
    """What a dataset records of the models that encoded a clip, as JSON knows it."""
    return {
        "vae": weights_fingerprint(vae),
        "text_encoder": weights_fingerprint(text_encoder),
        "scaling_factor": float(vae.scaling_factor),
    }


def check_encoder(
    dataset: LatentReader, vae: keras.Model, text_encoder: keras.Model
) -> str | None:
    """Refuse a dataset that other models encoded, and note one that does not tell."""
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
    note = (
        f"{len(unknown)} clips of {dataset.folder} do not tell what encoded them: VAE "
        "and text encoder of Stable Diffusion 1.5 are assumed."
    )
    if wanted["scaling_factor"] != _SD15_SCALE:
        raise ValueError(
            f"{note} Expected: a VAE of scale {_SD15_SCALE}. Received: "
            f"{_described(wanted, 'vae')}. If they fit all the same, say "
            "allow_other_encoder=True (--allow-other-encoder)."
        )
    return note


def _described(record, part):
    scale = f" (scale {record.get('scaling_factor')})" if part == "vae" else ""
    return f"{record.get(part)}{scale}"
