"""Datasets for whole training runs."""

import json

import numpy as np


def write_dataset(folder, clips, spoiled=()):
    """Clips of 2 x 2 latents for the preset `tiny`; the `spoiled` ones are NaN."""
    data = folder / "data"
    for name in ("videos", "prompts", "metadata"):
        (data / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    ids = [str(number) for number in range(clips)]
    for number, clip_id in enumerate(ids):
        latents = random.standard_normal((3 + number % 3, 4, 2, 2), "float32")
        if number in spoiled:
            latents[:] = np.nan
        np.save(data / "videos" / f"{clip_id}.npy", latents / 0.18215)
        states = random.standard_normal((1, 12, 16), "float32")
        np.save(data / "prompts" / f"{clip_id}.npy", states)
    (data / "id_list.json").write_text(json.dumps(ids))
    return folder
