"""Frames and a caption to latents and text states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_makeavid.compilation import compile_inference
from keras_makeavid.data.fingerprint import encoder_record
from keras_makeavid.data.reader import LatentClip


class ClipEncoder:
    """A VAE and a text encoder, as what makes clips of a dataset.

    Attributes:
        fingerprint: their `encoder_record`.

    Args:
        vae: an `AutoencoderKL`.
        text_encoder: takes `{"token_ids"}`, returns text states `(1, L, D)`.
        preprocessor: turns a caption into token ids `(1, L)`.
        chunk_size: frames that the VAE codes at once.
    """

    def __init__(
        self,
        vae: keras.Model,
        text_encoder: keras.Model,
        preprocessor: Callable[[str], np.ndarray],
        chunk_size: int = 1,
    ):
        self._vae = vae
        self._chunk_size = chunk_size
        self._preprocessor = preprocessor
        self._encode_text = compile_inference(
            lambda token_ids: text_encoder({"token_ids": token_ids}), [text_encoder]
        )
        self.fingerprint = encoder_record(vae, text_encoder)

    def encode(
        self, clip_id: str, frames: np.ndarray, metadata: dict[str, Any]
    ) -> LatentClip:
        """Encode one clip.

        Args:
            clip_id: its id.
            frames: `(F, H, W, 3)`, uint8.
            metadata: what is known of it, with its `caption`.

        Returns:
            The clip; its latents are posterior means, not scaled.
        """
        latents = self._vae.encode_video(frames, self._chunk_size)
        latents /= self._vae.scaling_factor
        states = self._encode_text(self._preprocessor(metadata["caption"]))
        states = keras.ops.convert_to_numpy(keras.ops.cast(states, "float32"))
        return LatentClip(clip_id, latents.astype("float32"), states[0], metadata)
