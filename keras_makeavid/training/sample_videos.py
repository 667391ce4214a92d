"""Videos generated while training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_makeavid.recipes.schema import Samples
from keras_makeavid.tasks import TextToVideo
from keras_makeavid.video import read_image, write_video


class SampleVideos:
    """Generates a recipe's sample videos, always from the same noise.

    Args:
        samples: of the recipe.
        frames: of a video, where `samples` does not say.
        seed: of the noise.
        folder: where `step-00001000/0.mp4` goes.

    Raises:
        FileNotFoundError: if a hint is missing.
    """

    def __init__(self, samples: Samples, frames: int, seed: int, folder: Path):
        self._samples = samples
        self._frames = samples.frames or frames
        self._seed = seed
        self._folder = folder
        self._fps = samples.fps
        self._hints = [read_image(path) for path in samples.hints]

    def generate(self, task: TextToVideo) -> list[np.ndarray]:
        """Generate a video for each prompt.

        Args:
            task: generates with the weights it has now.

        Returns:
            uint8 `(F, H, W, 3)` each.
        """
        self._fps = self._samples.fps or task.fps
        return [
            task.generate(
                prompt,
                hint_image=self._hints[number] if self._hints else None,
                num_frames=self._frames,
                num_steps=self._samples.steps,
                guidance_scale=self._samples.guidance,
                seed=self._seed + number,
            )[0]
            for number, prompt in enumerate(self._samples.prompts)
        ]

    def write(
        self,
        videos: Sequence[np.ndarray],
        step: int,
        show: Callable[[str, np.ndarray, float], None],
    ) -> None:
        """Write and show the video of each prompt.

        Args:
            videos: what `generate` returned.
            step: of the run.
            show: called with prompt, frames and frames a second of each.
        """
        folder = self._folder / f"step-{step:08}"
        folder.mkdir(parents=True, exist_ok=True)
        for number, frames in enumerate(videos):
            write_video(folder / f"{number}.mp4", frames, self._fps)
            show(self._samples.prompts[number], frames, self._fps)
