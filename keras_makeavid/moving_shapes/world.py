"""What there is in the world of moving shapes, and what training never sees of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("circle", "square", "triangle", "star", "dancer")
BACKGROUNDS = ("black", "grey", "brown")
_DANCES = ("jumping", "waving", "swaying")
_SHAPE_MOTIONS = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "growing",
    "shrinking",
    "spinning",
    "bouncing",
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

Triple = tuple[str, str, str]


@dataclass(frozen=True)
class Description:
    """What a caption says.

    Args:
        colour: One of `COLOURS`.
        shape: One of `SHAPES`.
        motion: One of the motions of that shape.
        background: One of `BACKGROUNDS`. A caption that names none means black.

    Raises:
        ValueError: There is no such thing in this world.

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
        """Colour, shape and motion."""
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
    return [
        (colour, shape, motion)
        for shape in SHAPES
        for motion in motions_of(shape)
        for colour in COLOURS
    ]


def held_out(triple: Triple) -> bool:
    """Tell whether training never shows a triple of colour, shape and motion.

    One in five is held out, by a rule that takes about as many from every colour,
    shape and motion, and leaves training every pair of shape and motion and of colour
    and shape.

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


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a `value` that is none of the choices; `name` says what is chosen."""
    if value not in choices:
        raise ValueError(
            f"The {name} must be one of {', '.join(choices)}. Received: {value!r}"
        )
