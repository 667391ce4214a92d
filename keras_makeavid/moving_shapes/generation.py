"""Prompts that a model is evaluated on, and its videos of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_makeavid.files import StrPath, existing_file, read_text
from keras_makeavid.moving_shapes.captions import KNOWN_WORLD, caption, parse_caption
from keras_makeavid.moving_shapes.evaluation import GeneratedVideo
from keras_makeavid.moving_shapes.rendering import render_at
from keras_makeavid.moving_shapes.world import (
    BACKGROUNDS,
    Description,
    Triple,
    draw_scene_of,
    triples_of,
)
from keras_makeavid.validation import check_least

if TYPE_CHECKING:
    from keras_makeavid.tasks import TextToVideo


def default_prompts(count: int = 24, wordings: bool = False) -> list[str]:
    """List `count` prompts of triples that training shows, then as many held out of it.

    Every part comes about as often as any other, and no triple twice. `wordings` draws
    a wording for each, always the same ones.
    """
    most = len(triples_of("held_out"))
    if not 1 <= count <= most:
        raise ValueError(f"count must be from 1 to {most}. Received: {count}")
    rng = np.random.default_rng(0) if wordings else None
    return [
        caption(Description(*triple, BACKGROUNDS[number % len(BACKGROUNDS)]), rng)
        for split in ("train", "held_out")
        for number, triple in enumerate(_balanced(triples_of(split), count))
    ]


def read_prompts(path: StrPath) -> list[str]:
    """Read prompts from a UTF-8 file, a prompt a line; empty lines are left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no prompt, or one whose video cannot be measured.
    """
    lines = read_text(existing_file(path)).split("\n")
    prompts = [line.strip() for line in lines if line.strip()]
    outside = [prompt for prompt in prompts if parse_caption(prompt) is None]
    if outside or not prompts:
        raise ValueError(
            f"{path} must hold prompts of {KNOWN_WORLD}. "
            f"Received: {', '.join(map(repr, outside[:5])) or 'no prompt'}"
        )
    return prompts


def generate_videos(
    task: TextToVideo,
    prompts: Sequence[str],
    num_seeds: int = 4,
    num_frames: int | None = None,
    num_steps: int | None = None,
    guidance_scale: float | None = None,
    hints: bool = False,
    spatial_only: bool = False,
) -> Iterator[GeneratedVideo]:
    """Generate `num_seeds` videos of each prompt, every one from a noise of its own.

    Arguments that are `None` are the task's own. With `hints` each video gets the first
    frame of a true clip of its prompt, a different one for each; `spatial_only` leaves
    out the model's temporal parts.
    """
    check_least(1, num_seeds=num_seeds)
    for number, prompt in enumerate(prompts):
        seeds = range(number * num_seeds, (number + 1) * num_seeds)
        pictures: list[np.ndarray | None] = [None] * num_seeds
        if hints:
            size = min(task.height, task.width)
            pictures = [_first_frame(prompt, seed, size) for seed in seeds]
        videos = task.generate(
            [prompt] * num_seeds,
            hint_image=pictures if hints else None,
            num_frames=num_frames,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            spatial_only=spatial_only,
            seed=list(seeds),
        )
        for frames, seed, picture in zip(videos, seeds, pictures, strict=True):
            yield GeneratedVideo(frames, prompt, seed, picture)


def _first_frame(prompt, seed, size):
    scene = draw_scene_of(parse_caption(prompt), np.random.default_rng(seed))
    return render_at(scene, np.zeros(1), size)[0]


def _balanced(triples: Sequence[Triple], count: int) -> list[Triple]:
    """Triples chosen one by one, of what was chosen least until then."""
    chosen: list[Triple] = []
    uses: Counter[str] = Counter()
    for _ in range(count):
        rest = [triple for triple in triples if triple not in chosen]
        chosen.append(min(rest, key=lambda triple: sum(uses[name] for name in triple)))
        uses.update(chosen[-1])
    return chosen
