"""Clips read and encoded by the workers of a Ray cluster."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_makeavid.data.clip_reading import ClipContent, read_clip
from keras_makeavid.data.parallel import taken_ahead

# What decides how workers compute, and is to be the same there as here.
_ENVIRONMENT = ("JAX_PLATFORMS", "XLA_FLAGS", "OMP_NUM_THREADS", "TF_CPP_MIN_LOG_LEVEL")
# How often a clip is given to a worker again that was lost with it.
_TRIES = 3
# Clips of which each worker knows, so that one that takes long holds up no others.
_CALLS_AHEAD = 4


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
        """Read clips by `read_clip`, in order, and encode the frames of their parts.

        `fingerprint` is the `encoder_record` that the workers must have.
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
            started = (to.content.remote(request, text) for to, request, text in calls)
            try:
                for content in taken_ahead(started, _CALLS_AHEAD * self.workers):
                    yield ray.get(content)
            except ray.exceptions.RayError as error:
                lines = str(error).strip().splitlines()
                raise RuntimeError(f"Ray: {lines[-1] if lines else error!r}") from error


class RayWorker:
    """What runs on another machine: reads clips and encodes them."""

    def __init__(self, preset: str, fingerprint: dict[str, Any]):
        from keras_makeavid import TextToVideo
        from keras_makeavid.data.clip_encoder import ClipEncoder

        task = TextToVideo.from_preset(preset, dtype="float32")
        self._encoder = ClipEncoder(
            task.vae, task.text_encoder, task.preprocessor.tokenize
        )
        if self._encoder.fingerprint != fingerprint:
            raise ValueError(f"{preset} has other weights on a worker than here")

    def content(self, request: tuple, caption: str) -> ClipContent:
        """Read and encode a clip."""
        content = read_clip(*request)
        parts = []
        for part in content.parts:
            assert isinstance(part.frames, np.ndarray)
            encoded = self._encoder.encode(part.frames, caption)
            parts.append(replace(part, frames=encoded))
        return replace(content, parts=parts)


def import_ray() -> Any:
    """Import Ray, or say how to get it."""
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "Clips are encoded on many machines through Ray: "
            "pip install 'keras-makeavid[ray]'"
        ) from error
    return ray


def _connected(ray, address):
    """What is in a cluster, and leaves it if that was not so before."""
    if ray.is_initialized():
        return nullcontext()
    dashboard = False if address == "local" else None
    return ray.init(
        address=address,
        include_dashboard=dashboard,
        log_to_driver=False,
        logging_level="warning",
    )


def _environment():
    import keras

    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {**kept, "KERAS_BACKEND": keras.config.backend()}
