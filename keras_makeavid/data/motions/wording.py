"""Descriptions in words."""

from __future__ import annotations

import re

import numpy as np

from keras_makeavid.data.motions import phrases
from keras_makeavid.data.motions.world import Description

_PLACES = (
    "on a {} background",
    "against a {} background",
    "in front of a {} background",
    "with a {} background",
)
# `{thing}` is colour and shape; `{where}` names the background, or is empty.
_SENTENCES = (
    "a {thing} {doing} {where}",
    "the {thing} {doing} {where}",
    "a {thing} {does} {where}",
    "the {thing} {does} {where}",
    "a {thing} is {doing} {where}",
    "a {thing} that {does} {where}",
    "{where} a {thing} {doing}",
    "{where} a {thing} {does}",
    "{doing} {where}, a {thing}",
    "{thing}, {doing}, {where}",
    "a video of a {thing} {doing} {where}",
    "a {shape} in {colour} {doing} {where}",
    "a {shape} that is {colour} {does} {where}",
)
_CANONICAL_SHARE = 0.4
# A black background may go without saying.
_BLACK_NAMED_SHARE = 0.25


def caption(description: Description, rng: np.random.Generator | None = None) -> str:
    """Say what a clip shows.

    Args:
        description: or `Scene`.
        rng: draws one of many wordings, the canonical one among them; `None` takes
            that one.

    Returns:
        Canonical: "a red star moving left on a grey background", with nothing said of
        a black background.

    Example:
        ```python
        caption(Description("red", "star", "moving left"))  # "a red star moving left"
        ```
    """
    if rng is None or rng.random() < _CANONICAL_SHARE:
        names = rng is not None and rng.random() < _BLACK_NAMED_SHARE
        return _canonical(description, names or description.background != "black")
    colour = _pick(phrases.COLOURS[description.colour], rng)
    shape = _pick(phrases.SHAPES[description.shape], rng)
    doing, does = _pick(phrases.MOTIONS[description.motion], rng)
    where = ""
    if description.background != "black" or rng.random() < _BLACK_NAMED_SHARE:
        word = _pick(phrases.BACKGROUNDS[description.background], rng)
        where = _pick(_PLACES, rng).format(word)
    sentence = _pick(_SENTENCES, rng).format(
        thing=f"{colour} {shape}",
        colour=colour,
        shape=shape,
        doing=doing,
        does=does,
        where=where,
    )
    return re.sub(r"\s+(?=,|$)|,\s*$|^\s+", "", sentence)


def _canonical(description, names_background):
    where = f" on a {description.background} background" if names_background else ""
    return f"a {description.colour} {description.shape} {description.motion}{where}"


def _pick(choices, rng):
    return choices[rng.integers(len(choices))]
