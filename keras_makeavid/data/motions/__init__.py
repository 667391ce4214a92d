"""Moving shapes and dancing figures: procedural videos with captions, from a seed.

"A red star moving left", "a blue square spinning on a grey background", "a white
dancer waving". Clip number `i` of a seed is the same on every machine.
"""

from keras_makeavid.data.motions.clips import MotionClips
from keras_makeavid.data.motions.reading import KNOWN_WORLD, note_on, parse_caption
from keras_makeavid.data.motions.rendering import render, render_at
from keras_makeavid.data.motions.scene import Scene, draw_scene, draw_scene_of
from keras_makeavid.data.motions.wording import caption
from keras_makeavid.data.motions.world import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    Description,
    all_triples,
    held_out,
    motions_of,
    triples_of,
)

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "KNOWN_WORLD",
    "MOTIONS",
    "SHAPES",
    "Description",
    "MotionClips",
    "Scene",
    "all_triples",
    "caption",
    "draw_scene",
    "draw_scene_of",
    "held_out",
    "motions_of",
    "note_on",
    "parse_caption",
    "render",
    "render_at",
    "triples_of",
]
