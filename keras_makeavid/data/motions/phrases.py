"""The words that captions say things with."""

from __future__ import annotations

import itertools

COLOURS = {
    "red": ("red", "crimson"),
    "green": ("green",),
    "blue": ("blue",),
    "yellow": ("yellow",),
    "purple": ("purple", "violet"),
    "white": ("white",),
}
BACKGROUNDS = {
    "black": ("black",),
    "grey": ("grey", "gray"),
    "brown": ("brown",),
}
SHAPES = {
    "circle": ("circle", "disc", "ball"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "dancer": ("dancer", "dancing figure", "stick figure", "person"),
}


def _moving(*directions):
    verbs = [
        ("moving", "moves"),
        ("going", "goes"),
        ("sliding", "slides"),
        ("travelling", "travels"),
        ("flying", "flies"),
    ]
    return tuple(
        (f"{doing} {direction}", f"{does} {direction}")
        for (doing, does), direction in itertools.product(verbs, directions)
    )


# Each as a participle and as a verb.
MOTIONS = {
    "moving left": _moving("left", "to the left"),
    "moving right": _moving("right", "to the right"),
    "moving up": (*_moving("up", "upwards"), ("rising", "rises")),
    "moving down": (*_moving("down", "downwards"), ("sinking", "sinks")),
    "growing": (
        ("growing", "grows"),
        ("expanding", "expands"),
        ("getting bigger", "gets bigger"),
        ("becoming larger", "becomes larger"),
    ),
    "shrinking": (
        ("shrinking", "shrinks"),
        ("contracting", "contracts"),
        ("getting smaller", "gets smaller"),
        ("becoming smaller", "becomes smaller"),
    ),
    "spinning": (
        ("spinning", "spins"),
        ("rotating", "rotates"),
        ("turning around", "turns around"),
    ),
    "bouncing": (
        ("bouncing", "bounces"),
        ("bouncing up and down", "bounces up and down"),
    ),
    "jumping": (
        ("jumping", "jumps"),
        ("jumping up and down", "jumps up and down"),
        ("leaping", "leaps"),
    ),
    "waving": (
        ("waving", "waves"),
        ("waving a hand", "waves a hand"),
        ("waving an arm", "waves an arm"),
    ),
    "swaying": (
        ("swaying", "sways"),
        ("swaying from side to side", "sways from side to side"),
        ("swaying left and right", "sways left and right"),
    ),
}
