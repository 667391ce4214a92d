"""Descriptions read back out of words, and what to say of other words."""

from __future__ import annotations

import re

from keras_makeavid.data.motions import phrases
from keras_makeavid.data.motions.world import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    Description,
    motions_of,
)

_KINDS = ("colour", "shape", "motion", "background")
# What may stand between words that mean something.
_FILLERS = frozenset(
    ("a", "an", "the", "is", "it", "that", "which", "there", "of", "in", "on")
    + ("against", "with", "front", "and", "to", "video", "clip", "animation")
)


def _joined(words, last):
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


KNOWN_WORLD = (
    f"a {_joined(COLOURS, 'or')} {_joined(SHAPES[:-1], 'or')} "
    f"{_joined(motions_of('square'), 'or')} (a circle does not spin), or a dancer in "
    f"these colours {_joined(motions_of('dancer'), 'or')}; on a "
    f"{_joined(BACKGROUNDS, 'or')} background, black if none is named"
)


def parse_caption(text: str) -> Description | None:
    """Read what a caption says, in any of the wordings of `caption` and some more.

    Args:
        text: a caption or prompt.

    Returns:
        A `Description`; `None` if something is missing, said twice differently, or
        not of this world.

    Example:
        ```python
        parse_caption("The violet ball rises").triple
        # ("purple", "circle", "moving up")
        parse_caption("a red dragon moving left")  # None
        ```
    """
    words = re.findall(r"[^\W_]+", text.lower())
    found: dict[str, set[str]] = {kind: set() for kind in _KINDS}
    while words:
        length, kind, name = _longest_match(words)
        if kind is not None:
            found[kind].add(name)
        elif words[0] not in _FILLERS:
            return None
        words = words[length:]
    found["background"] = found["background"] or {"black"}
    if any(len(names) != 1 for names in found.values()):
        return None
    (colour,), (shape,), (motion,), (background,) = (found[kind] for kind in _KINDS)
    if motion not in motions_of(shape):
        return None
    return Description(colour, shape, motion, background)


def note_on(prompt: str) -> str | None:
    """Tell a user that a prompt is outside of what models of this data know.

    Args:
        prompt: what to generate.

    Returns:
        A sentence that says what they do know; `None` if the prompt is within it.

    Example:
        ```python
        note_on("a red star moving left")  # None
        ```
    """
    if parse_caption(prompt) is not None:
        return None
    return (
        f"{prompt!r} lies outside of what this small model was trained on, and what it "
        f"makes of it is chance. It knows {KNOWN_WORLD}."
    )


def _meanings():
    """Every phrase that means something, as a tuple of words: its kind and name."""
    backgrounds = ("{} background", "on {} background", "on {}")
    tables = {
        "colour": phrases.COLOURS,
        "shape": phrases.SHAPES,
        "motion": {name: sum(forms, ()) for name, forms in phrases.MOTIONS.items()},
        "background": {
            name: [form.format(word) for word in words for form in backgrounds]
            for name, words in phrases.BACKGROUNDS.items()
        },
    }
    return {
        tuple(phrase.split()): (kind, name)
        for kind, table in tables.items()
        for name, named in table.items()
        for phrase in named
    }


_MEANINGS = _meanings()
_LONGEST = max(map(len, _MEANINGS))


def _longest_match(words):
    for length in range(min(_LONGEST, len(words)), 0, -1):
        meaning = _MEANINGS.get(tuple(words[:length]))
        if meaning is not None:
            return length, *meaning
    return 1, None, None
