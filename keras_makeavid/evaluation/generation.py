"""Videos of a model for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_makeavid.data.motions import draw_scene_of, parse_caption, render_at
from keras_makeavid.evaluation.evaluation import GeneratedVideo

if TYPE_CHECKING:
    from keras_makeavid.tasks import TextToVideo


def generate_videos(
    task: TextToVideo,
    prompts: Sequence[str],
    num_seeds: int = 4,
    num_frames: int | None = None,
    num_steps: int = 20,
    guidance_scale: float | None = None,
    hints: bool = False,
    spatial_only: bool = False,
) -> Iterator[GeneratedVideo]:
    """Generate videos of each prompt, every one from a noise of its own.

    Args:
        task: the model.
        prompts: captions of `keras_makeavid.data.motions`.
        num_seeds: videos of each prompt, generated together.
        num_frames: frames of a video; `None` is the task's own number.
        num_steps: sampling steps.
        guidance_scale: weight of the prompt; `None` is the task's own.
        hints: whether to give the first frame of a true clip of the prompt as the
            hint, a different one for each video.
        spatial_only: whether to leave out the model's temporal parts.

    Yields:
        `GeneratedVideo`s, prompt after prompt.

    Raises:
        ValueError: if `num_seeds` is below 1, or an argument makes no sense to
            `TextToVideo.generate`.

    Example:
    ```python
    task = keras_makeavid.TextToVideo.from_preset("path/to/preset")
    evaluation = evaluate(generate_videos(task, default_prompts()))
    ```
    """
    if num_seeds < 1:
        raise ValueError(f"num_seeds must be at least 1. Received: {num_seeds}")
    for number, prompt in enumerate(prompts):
        seeds = range(number * num_seeds, (number + 1) * num_seeds)
        pictures = [None] * num_seeds
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
