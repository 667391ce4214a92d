"""A small dataset in the published layout."""

import json

import numpy as np
import pytest


def write_clip(data, clip_id, frames=6, channels=4, size=(3, 5), seed=0):
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((frames, channels, *size)).astype("float32")
    np.save(data / "videos" / f"{clip_id}.npy", latents)
    states = rng.standard_normal((1, 7, 8)).astype("float32")
    np.save(data / "prompts" / f"{clip_id}.npy", states)
    return latents, states


@pytest.fixture
def dataset(tmp_path):
    """Clips "1" (6 frames), "2" (9 frames) and "3", which failed and is damaged."""
    data = tmp_path / "data"
    for folder in ("videos", "prompts", "metadata"):
        (data / folder).mkdir(parents=True)
    for clip_id, frames in (("1", 6), ("2", 9)):
        write_clip(data, clip_id, frames, seed=int(clip_id))
    (data / "videos" / "3.npy").write_bytes(b"damaged")
    (data / "id_list.json").write_text(json.dumps(["1", "2", "3"]))
    (data / "failed_id_list.json").write_text(json.dumps(["3"]))
    return tmp_path
