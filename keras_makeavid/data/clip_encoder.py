"""Frames and a caption to latents and text states: here, or on a cluster of Ray."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_makeavid.compilation import compile_inference
from keras_makeavid.data.clip_reading import ClipContent, read_clip
from keras_makeavid.data.fingerprint import encoder_record
from keras_makeavid.data.reader import LatentClip

# What decides how workers compute, and is to be the same there as here.
_ENVIRONMENT = ("JAX_PLATFORMS", "XLA_FLAGS", "OMP_NUM_THREADS", "TF_CPP_MIN_LOG_LEVEL")
# How often a clip is given to a worker again that was lost with it.
_TRIES = 3
# Clips of which each worker knows, so that one that takes long holds up no others.
_CALLS_AHEAD = 4


class ClipEncoder:
    """A VAE and a text encoder, as what makes clips of a dataset.

    Attributes:
        fingerprint: Their `encoder_record`.

    Args:
        vae: An `AutoencoderKL`.
        text_encoder: Takes `{"token_ids"}` and returns text states `(1, L, D)`.
        preprocessor: Turns a caption into token ids `(1, L)`.
        chunk_size: Frames that the VAE codes at once.
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
            clip_id: Its id.
            frames: `(F, H, W, 3)`, uint8.
            metadata: What is known of it, with its `caption`.

        Returns:
            The clip. Its latents are posterior means, not scaled.
        """
        latents = self._vae.encode_video(frames, self._chunk_size)
        latents /= self._vae.scaling_factor
        states = self._encode_text(self._preprocessor(metadata["caption"]))
        states = keras.ops.convert_to_numpy(keras.ops.cast(states, "float32"))
        return LatentClip(clip_id, latents.astype("float32"), states[0], metadata)


@dataclass(frozen=True)
class RayWorkers:
    """The workers of a Ray cluster that encode clips.

    Every machine must find the clips, and the preset, under the paths that they have
    here: on a file system of all of them. A worker that is lost is replaced, and its
    clip encoded again.

    Args:
        preset: Preset of the `TextToVideo` whose VAE and text encoder the workers use.
        workers: How many encode at a time.
        address: Address of the cluster, `"auto"` for the one that this machine is in,
            or `"local"` to start one on this machine for as long as it is needed.
        gpus: GPUs of each worker.

    Raises:
        ImportError: Ray is missing. The text names the extra.

    Example:
    ```python
    encode_clips(
        read_captions("clips"), "dataset",
        task.vae, task.text_encoder, task.preprocessor.tokenize,
        ray_workers=RayWorkers("preset", workers=8, address="auto", gpus=1),
    )
    ```
    """

    preset: str
    workers: int = 1
    address: str = "local"
    gpus: float = 0.0

    def __post_init__(self):
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1. Received: {self.workers}")
        import_ray()

    def contents(
        self,
        requests: Iterable[tuple],
        captions: Iterable[str],
        fingerprint: dict[str, Any],
    ) -> Iterator[ClipContent]:
        """Read and encode clips.

        Args:
            requests: Arguments of `read_clip`, clip by clip.
            captions: Captions of the clips.
            fingerprint: The `encoder_record` that the workers must have.

        Yields:
            What `read_clip` returns, in the order of the requests, the frames of the
            parts replaced by `(latents, context)`.

        Raises:
            RuntimeError: A worker cannot begin, such as where it finds no preset.
        """
        ray = import_ray()
        with _connected(ray, self.address):
            # A worker that is lost begins again, on another machine if need be.
            worker = ray.remote(RayWorker).options(
                num_gpus=self.gpus,
                # Over the machines: a worker holds no CPU by which to count.
                scheduling_strategy="SPREAD",
                max_restarts=-1,
                max_task_retries=_TRIES,
                runtime_env={"env_vars": _environment()},
            )
            preset = os.path.abspath(self.preset)
            workers = [worker.remote(preset, fingerprint) for _ in range(self.workers)]
            calls = zip(itertools.cycle(workers), requests, captions, strict=False)
            pending: deque[Any] = deque()
            try:
                for next_worker, request, caption in calls:
                    pending.append(next_worker.content.remote(request, caption))
                    if len(pending) > _CALLS_AHEAD * self.workers:
                        yield ray.get(pending.popleft())
                while pending:
                    yield ray.get(pending.popleft())
            except ray.exceptions.RayError as error:
                lines = str(error).strip().splitlines()
                raise RuntimeError(f"Ray: {lines[-1] if lines else error!r}") from error


class RayWorker:
    """What runs on another machine: reads clips and encodes them.

    Args:
        preset: Preset of the models.
        fingerprint: The `encoder_record` that they must have.

    Raises:
        ValueError: They have others.
    """

    def __init__(self, preset: str, fingerprint: dict[str, Any]):
        from keras_makeavid import TextToVideo

        task = TextToVideo.from_preset(preset)
        self._encoder = ClipEncoder(
            task.vae, task.text_encoder, task.preprocessor.tokenize
        )
        if self._encoder.fingerprint != fingerprint:
            raise ValueError(f"{preset} has other weights on a worker than here")

    def content(self, request: tuple, caption: str) -> ClipContent:
        """Read and encode a clip, as `RayWorkers.contents` gives it."""
        content = read_clip(*request)
        parts = []
        for part in content.parts:
            assert isinstance(part.frames, np.ndarray)
            clip = self._encoder.encode("", part.frames, {"caption": caption})
            parts.append(replace(part, frames=(clip.latents, clip.context)))
        return replace(content, parts=parts)


def import_ray() -> Any:
    """Import Ray.

    Raises:
        ImportError: Ray is missing. The text names the extra.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "Clips are encoded on many machines through Ray: "
            "pip install 'keras-makeavid[ray]'"
        ) from error
    return ray


@contextmanager
def _connected(ray, address):
    """Be in a cluster, and leave it if that was not so before."""
    if ray.is_initialized():
        yield
        return
    options = {"log_to_driver": False, "logging_level": "warning"}
    if address == "local":
        options["include_dashboard"] = False
    ray.init(address=address, **options)
    try:
        yield
    finally:
        ray.shutdown()


def _environment():
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {**kept, "KERAS_BACKEND": keras.config.backend()}
