"""Large pictures in overlapping tiles, blended where they overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

# As in diffusers, neighbours share at least a quarter of a tile.
_OVERLAP = 4


class TileGrid:
    """Overlapping tiles of one size that cover a picture.

    Sizes are in cells, the pixels of a latent: the same grid then serves pictures
    that are a multiple of it. A tile larger than the picture shrinks to it.
    """

    def __init__(self, height: int, width: int, tile: int):
        self.size = (height, width)
        self.tile = (min(tile, height), min(tile, width))
        self.starts = tuple(map(tile_starts, self.size, self.tile))

    def apply(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        pictures: np.ndarray,
        scale_in: int,
        scale_out: int,
    ) -> np.ndarray:
        """Apply `function` to each tile and blend what it returns linearly.

        It takes `(N, h, w, C)` pixels, always of one shape. A cell is `scale_in` pixels
        of `pictures`, and `scale_out` of the result, which is float32.
        """
        reads = self._slices(scale_in)
        writes = self._slices(scale_out)
        weights = self._weights(scale_out)
        blended: np.ndarray | None = None
        for read, write, weight in zip(reads, writes, weights, strict=True):
            piece = function(pictures[:, *read])
            if blended is None:
                height, width = (scale_out * cells for cells in self.size)
                shape = (len(pictures), height, width, piece.shape[-1])
                blended = np.zeros(shape, "float32")
            blended[:, *write] += piece * weight
        assert blended is not None, "a grid has tiles"
        return blended

    def _slices(self, scale: int) -> list[tuple[slice, slice]]:
        height, width = (scale * cells for cells in self.tile)
        return [
            (
                slice(scale * row, scale * row + height),
                slice(scale * column, scale * column + width),
            )
            for row in self.starts[0]
            for column in self.starts[1]
        ]

    def _weights(self, scale: int) -> list[np.ndarray]:
        rows, columns = (
            blend_weights(
                [scale * start for start in starts], scale * size, scale * tile
            )
            for starts, size, tile in zip(
                self.starts, self.size, self.tile, strict=True
            )
        )
        return [np.outer(row, column)[..., None] for row in rows for column in columns]


def tile_starts(size: int, tile: int) -> list[int]:
    """Where the fewest tiles start that cover an axis and overlap enough.

    The starts increase, from 0 to `size - tile`.
    """
    overlap = tile // _OVERLAP
    count = -(-(size - overlap) // (tile - overlap))
    return [i * (size - tile) // max(count - 1, 1) for i in range(count)]


def blend_weights(starts: Sequence[int], size: int, tile: int) -> np.ndarray:
    """Weights `(tiles, tile)` of the tiles along an axis of a length `size`.

    They ramp up and down in overlaps; at each point of the axis they sum to 1.
    """
    rise = (np.arange(tile) + 0.5) * _OVERLAP / tile
    weights = np.ones((len(starts), tile))
    total = np.zeros(size)
    for weight, start in zip(weights, starts, strict=True):
        if start > 0:
            np.minimum(weight, rise, out=weight)
        if start + tile < size:
            np.minimum(weight, rise[::-1], out=weight)
        total[start : start + tile] += weight
    for weight, start in zip(weights, starts, strict=True):
        weight /= total[start : start + tile]
    return weights.astype("float32")
