"""Clips by number, without end and without files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_makeavid.moving_shapes.captions import caption
from keras_makeavid.moving_shapes.rendering import render, render_at
from keras_makeavid.moving_shapes.scene import Scene, draw_scene
from keras_makeavid.moving_shapes.world import MOTIONS, SPLITS, check_choice


class MotionClips:
    """Captioned clips of moving shapes, made when they are asked for.

    Clip `i` is a function of the seed and `i` only: any process, in any order, gets
    the same. There is no last one, and nothing is kept in memory.

    Args:
        seed: Seed of everything.
        split: `"train"`, or `"held_out"` for the triples that training never shows.
        num_frames: Frames F of a clip.
        size: Height and width in pixels.
        often: A motion, and the share of clips that are sure to show it. What is hard
            to learn must be seen often.

    Raises:
        ValueError: There is no such split or motion, or the share is none.

    Example:
        ```python
        clips = MotionClips(seed=1)
        frames, text = clips.clip(7)
        frames.shape  # (16, 64, 64, 3)
        ```
    """

    def __init__(
        self,
        seed: int = 0,
        split: str = "train",
        num_frames: int = 16,
        size: int = 64,
        often: tuple[str, float] | None = None,
    ):
        check_choice("split", split, SPLITS)
        if often is not None:
            check_choice("motion", often[0], MOTIONS)
            if not 0 < often[1] <= 1:
                raise ValueError(
                    "The share of clips of a motion must be over 0 and at most 1. "
                    f"Received: {often[1]}"
                )
        self.seed = seed
        self.split = split
        self.num_frames = num_frames
        self.size = size
        self.often = often

    def scene(self, index: int) -> Scene:
        """What clip `index` shows."""
        return draw_scene(self._generator(index), self.split, self.often)

    def caption(self, index: int) -> str:
        """What is said of clip `index`, in one of many wordings."""
        return self._drawn(index)[1]

    def clip(self, index: int) -> tuple[np.ndarray, str]:
        """Make clip `index`: uint8 `(F, H, W, 3)`, and its caption."""
        scene, text, _ = self._drawn(index)
        return render(scene, self.num_frames, self.size), text

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, list[str]]:
        """Make several clips: uint8 `(B, F, H, W, 3)`, and B captions.

        Example:
            ```python
            frames, captions = MotionClips().batch(range(8, 16))
            frames.shape  # (8, 16, 64, 64, 3)
            ```
        """
        shape = len(indices), self.num_frames, self.size, self.size, 3
        frames, texts = np.empty(shape, "uint8"), []
        for row, index in enumerate(indices):
            frames[row], text = self.clip(index)
            texts.append(text)
        return frames, texts

    def images(
        self, indices: Sequence[int], moment: float | None = None
    ) -> tuple[np.ndarray, list[str]]:
        """Make one frame of each of several clips, at a fraction of a clip's cost.

        Args:
            indices: The clips' numbers.
            moment: From 0, the first frame, to 1, the last. `None` draws one for each
                clip. A model that makes first frames learns them from first frames:
                what moves left must begin where there is room on its left.

        Returns:
            uint8 `(B, H, W, 3)`, and B captions.

        Example:
            ```python
            images, captions = MotionClips().images(range(32))
            images.shape  # (32, 64, 64, 3)
            ```
        """
        images = np.empty((len(indices), self.size, self.size, 3), "uint8")
        texts = []
        for row, index in enumerate(indices):
            scene, text, drawn = self._drawn(index)
            time = drawn if moment is None else moment
            (images[row],) = render_at(scene, np.array([time]), self.size)
            texts.append(text)
        return images, texts

    def _drawn(self, index):
        """A clip's scene and caption, and a moment of it."""
        rng = self._generator(index)
        scene = draw_scene(rng, self.split, self.often)
        return scene, caption(scene, rng), rng.random()

    def _generator(self, index):
        # Splits differ in triples; drawn from the same numbers they would be alike.
        return np.random.default_rng([self.seed, SPLITS.index(self.split), index])
