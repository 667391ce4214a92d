"""The world of moving shapes: what there is, what is held out, and scenes of it."""

import colorsys
import functools
import math
from dataclasses import dataclass

import numpy as np

from keras_makeavid.validation import check_choice

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("circle", "square", "triangle", "star", "dancer")
BACKGROUNDS = ("black", "grey", "brown")
_DANCES = ("jumping", "waving", "swaying")
_SHAPE_MOTIONS = (
    *("moving left", "moving right", "moving up", "moving down"),
    *("growing", "shrinking", "spinning", "bouncing"),
)
MOTIONS = _SHAPE_MOTIONS + _DANCES
SPLITS = ("train", "held_out")
# How far a shape reaches from its centre, in radii: about equal areas for all.
SQUARE_HALF_SIDE = 0.9
REACH = {
    "circle": 1.0,
    "square": SQUARE_HALF_SIDE * math.sqrt(2),
    "triangle": 1.45,
    "star": 1.45,
    # With an arm up, and the thickness of the arm.
    "dancer": 1.25,
}

# Hue in degrees, saturation and value: from, to.
_COLOUR_RANGES = {
    "red": ((-8, 8), (0.8, 1.0), (0.75, 1.0)),
    "green": ((105, 135), (0.7, 1.0), (0.6, 0.95)),
    "blue": ((212, 236), (0.7, 1.0), (0.75, 1.0)),
    "yellow": ((50, 60), (0.75, 1.0), (0.85, 1.0)),
    "purple": ((276, 296), (0.6, 0.9), (0.65, 0.95)),
    "white": ((0, 360), (0.0, 0.04), (0.9, 1.0)),
}
_BACKGROUND_RANGES = {
    "black": ((0, 360), (0.0, 0.0), (0.0, 0.1)),
    "grey": ((0, 360), (0.0, 0.05), (0.38, 0.55)),
    "brown": ((22, 30), (0.55, 0.7), (0.32, 0.45)),
}
# Black twice: most captions of clips with it name no background.
_BACKGROUND_DRAW = ("black", "black", "grey", "brown")

_DANCE_AMOUNTS = {"jumping": (0.12, 0.2), "waving": (35, 50), "swaying": (14, 22)}

# Of the frame's side, as all lengths here.
_MARGIN = 0.03

Triple = tuple[str, str, str]
RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Description:
    """What a caption says: one of `COLOURS`, `SHAPES`, its motions and `BACKGROUNDS`.

    A caption that names no background means black. Anything else is a `ValueError`.

    Example:
        ```python
        Description("red", "star", "moving left").background  # "black"
        ```
    """

    colour: str
    shape: str
    motion: str
    background: str = "black"

    def __post_init__(self):
        check_choice("colour", self.colour, COLOURS)
        check_choice("shape", self.shape, SHAPES)
        check_choice(f"motion of a {self.shape}", self.motion, motions_of(self.shape))
        check_choice("background", self.background, BACKGROUNDS)

    @property
    def triple(self) -> Triple:
        return self.colour, self.shape, self.motion


def motions_of(shape: str) -> tuple[str, ...]:
    """Name the motions in which a shape can be seen to move: a circle does not spin."""
    if shape == "dancer":
        return _DANCES
    if shape == "circle":
        return tuple(motion for motion in _SHAPE_MOTIONS if motion != "spinning")
    return _SHAPE_MOTIONS


def all_triples() -> list[Triple]:
    """List every colour, shape and motion that go together: 204 triples."""
    pairs = [(shape, motion) for shape in SHAPES for motion in motions_of(shape)]
    return [(colour, *pair) for pair in pairs for colour in COLOURS]


def held_out(triple: Triple) -> bool:
    """Tell whether training never shows a triple of colour, shape and motion.

    One in five is held out, by a rule that takes about as many from every colour, shape
    and motion, and leaves training every pair of these with a shape.

    Example:
        ```python
        held_out(("red", "square", "moving left"))  # True
        ```
    """
    colour, shape, motion = triple
    place = COLOURS.index(colour) + SHAPES.index(shape) + 2 * MOTIONS.index(motion)
    return place % 5 == 1


def triples_of(split: str) -> list[Triple]:
    """List the triples of `"train"`, or those that are `"held_out"` of it."""
    check_choice("split", split, SPLITS)
    return [t for t in all_triples() if held_out(t) == (split == "held_out")]


@dataclass(frozen=True, kw_only=True)
class Scene(Description):
    """A clip before it is rendered: of no size and no number of frames.

    Lengths are fractions of the frame's side; x points right, y down.

    Args:
        rgb: Colour of the shape, from 0 to 1.
        background_rgb: Colour of the background.
        x: Centre at the start.
        y: Centre at the start. Of a dancer the middle between feet and crown.
        radius: Radius at the start. Of a dancer half the height.
        amount: How far the motion goes in the whole clip: the way, the height of a
            bounce or jump, the factor of growth; degrees of a spin, a wave or a sway.
        cycles: How many times a bounce or dance repeats.
    """

    rgb: RGB
    background_rgb: RGB
    x: float
    y: float
    radius: float
    amount: float
    cycles: int = 1


def draw_scene(
    rng: np.random.Generator,
    split: str = "train",
    often: tuple[str, float] | None = None,
) -> Scene:
    """Draw a scene: any shape as often as any other, then one of its triples.

    `often` is a motion, and the share of scenes that are sure to show it.
    """
    if often is not None and rng.random() < often[1]:
        check_choice("motion", often[0], MOTIONS)
        triples = _triples_with(split, often[0])
    else:
        triples = _triples_with(split, SHAPES[rng.integers(len(SHAPES))])
    triple = triples[rng.integers(len(triples))]
    background = _BACKGROUND_DRAW[rng.integers(len(_BACKGROUND_DRAW))]
    return draw_scene_of(Description(*triple, background=background), rng)


def draw_scene_of(description: Description, rng: np.random.Generator) -> Scene:
    """Draw what a description leaves open: shades, place, size and speed.

    Whatever is drawn, the shape stays within the frame, however long the clip is.

    Example:
        ```python
        star = Description("red", "star", "moving left", "grey")
        draw_scene_of(star, np.random.default_rng(0)).colour  # "red"
        ```
    """
    return Scene(
        **vars(description),
        rgb=_draw_rgb(_COLOUR_RANGES[description.colour], rng),
        background_rgb=_draw_rgb(_BACKGROUND_RANGES[description.background], rng),
        **_draw_geometry(description.shape, description.motion, rng),
    )


@functools.cache
def _triples_with(split: str, name: str) -> list[Triple]:
    return [triple for triple in triples_of(split) if name in triple]


def _draw_geometry(shape, motion, rng):
    if shape == "dancer":
        return _draw_dance(motion, rng)
    if motion in ("growing", "shrinking"):
        return _draw_change_of_size(shape, motion, rng)
    if motion == "spinning":
        radius = rng.uniform(0.13, 0.2)
        x, y = (_place(rng, REACH[shape] * radius) for _ in range(2))
        return {"x": x, "y": y, "radius": radius, "amount": rng.uniform(130, 220)}
    radius = rng.uniform(0.12, 0.19)
    return {"radius": radius, **_draw_way(motion, REACH[shape] * radius, rng)}


def _draw_way(motion, reach, rng):
    """Start and length of a way that ends within the frame."""
    room = 1 - 2 * (reach + _MARGIN)
    across = _place(rng, reach)
    if motion == "bouncing":
        height = rng.uniform(0.22, min(0.45, room))
        ground = rng.uniform(reach + _MARGIN + height, 1 - reach - _MARGIN)
        cycles = int(rng.integers(2, 4))
        return {"x": across, "y": ground, "amount": height, "cycles": cycles}
    way = rng.uniform(0.25, min(0.55, room))
    start = rng.uniform(reach + _MARGIN, 1 - reach - _MARGIN - way)
    if motion in ("moving left", "moving up"):
        start += way
    if motion in ("moving left", "moving right"):
        return {"x": start, "y": across, "amount": way}
    return {"x": across, "y": start, "amount": way}


def _draw_change_of_size(shape, motion, rng):
    small, factor = rng.uniform(0.09, 0.13), rng.uniform(1.7, 2.2)
    x, y = (_place(rng, REACH[shape] * small * factor) for _ in range(2))
    radius = small if motion == "growing" else small * factor
    return {"x": x, "y": y, "radius": radius, "amount": factor}


def _draw_dance(motion, rng):
    radius = rng.uniform(0.23, 0.3)
    amount = rng.uniform(*_DANCE_AMOUNTS[motion])
    jump = amount if motion == "jumping" else 0.0
    top = REACH["dancer"] * radius + jump + _MARGIN
    return {
        "x": _place(rng, REACH["dancer"] * radius),
        "y": rng.uniform(top, 1 - 1.1 * radius - _MARGIN),
        "radius": radius,
        "amount": amount,
        "cycles": int(rng.integers(2, 4)),
    }


def _place(rng, reach):
    """A coordinate of the centre of what reaches so far from it."""
    return rng.uniform(reach + _MARGIN, 1 - reach - _MARGIN)


def _draw_rgb(ranges, rng) -> RGB:
    hue, saturation, value = (rng.uniform(*bounds) for bounds in ranges)
    return colorsys.hsv_to_rgb(hue / 360 % 1.0, saturation, value)
