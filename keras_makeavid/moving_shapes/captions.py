"""Descriptions in words, and read back out of them."""

import re

import numpy as np

from keras_makeavid.moving_shapes.world import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    Description,
    motions_of,
)

_COLOUR_WORDS = {
    **{"red": ("red", "crimson"), "green": ("green",), "blue": ("blue",)},
    **{"yellow": ("yellow",), "purple": ("purple", "violet"), "white": ("white",)},
}
_BACKGROUND_WORDS = {"black": ("black",), "grey": ("grey", "gray"), "brown": ("brown",)}
_SHAPE_WORDS = {
    "circle": ("circle", "disc", "ball"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "dancer": ("dancer", "dancing figure", "stick figure", "person"),
}


def _moving(*directions):
    verbs = ("moving", "going", "sliding", "travelling", "flying")
    return tuple(f"{verb} {direction}" for verb in verbs for direction in directions)


_MOTION_WORDS = {
    "moving left": _moving("left", "to the left"),
    "moving right": _moving("right", "to the right"),
    "moving up": (*_moving("up", "upwards"), "rising"),
    "moving down": (*_moving("down", "downwards"), "sinking"),
    "growing": ("growing", "expanding", "getting bigger", "becoming larger"),
    "shrinking": ("shrinking", "contracting", "getting smaller", "becoming smaller"),
    "spinning": ("spinning", "rotating", "turning around"),
    "bouncing": ("bouncing", "bouncing up and down"),
    "jumping": ("jumping", "jumping up and down", "leaping"),
    "waving": ("waving", "waving a hand", "waving an arm"),
    "swaying": ("swaying", "swaying from side to side", "swaying left and right"),
}
# What the first word of such a phrase is, and becomes after "it".
_VERB_FORMS = (
    "becoming/becomes bouncing/bounces contracting/contracts expanding/expands "
    "flying/flies getting/gets going/goes growing/grows jumping/jumps leaping/leaps "
    "moving/moves rising/rises rotating/rotates shrinking/shrinks sinking/sinks "
    "sliding/slides spinning/spins swaying/sways travelling/travels turning/turns "
    "waving/waves"
)
_VERBS = dict(forms.split("/") for forms in _VERB_FORMS.split())
_PLACES = tuple(
    f"{place} a {{}} background" for place in ("on", "against", "in front of", "with")
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


def caption(description: Description, rng: np.random.Generator | None = None) -> str:
    """Say what a clip shows: "a red star moving left on a grey background".

    `rng` draws one of many wordings; `None` takes the canonical one.
    """
    if rng is None or rng.random() < _CANONICAL_SHARE:
        names = rng is not None and rng.random() < _BLACK_NAMED_SHARE
        names = names or description.background != "black"
        where = f" on a {description.background} background" if names else ""
        return f"a {description.colour} {description.shape} {description.motion}{where}"
    colour = _pick(_COLOUR_WORDS[description.colour], rng)
    shape = _pick(_SHAPE_WORDS[description.shape], rng)
    doing = _pick(_MOTION_WORDS[description.motion], rng)
    where = ""
    if description.background != "black" or rng.random() < _BLACK_NAMED_SHARE:
        word = _pick(_BACKGROUND_WORDS[description.background], rng)
        where = _pick(_PLACES, rng).format(word)
    words = {"colour": colour, "shape": shape, "doing": doing, "where": where}
    words |= {"thing": f"{colour} {shape}", "does": _verb(doing)}
    sentence = _pick(_SENTENCES, rng).format(**words)
    return re.sub(r"\s+(?=,|$)|,\s*$|^\s+", "", sentence)


def _verb(doing):
    first, *rest = doing.split()
    return " ".join([_VERBS[first], *rest])


def _pick(choices, rng):
    return choices[rng.integers(len(choices))]


def parse_caption(text: str) -> Description | None:
    """Read what a text says, in many wordings; `None` if not all is of this world."""
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
    """Tell what models of this data know; `None` if a prompt lies within it."""
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
        "colour": _COLOUR_WORDS,
        "shape": _SHAPE_WORDS,
        "motion": {
            name: [form for phrase in phrases for form in (phrase, _verb(phrase))]
            for name, phrases in _MOTION_WORDS.items()
        },
        "background": {
            name: [form.format(word) for word in words for form in backgrounds]
            for name, words in _BACKGROUND_WORDS.items()
        },
    }
    return {
        tuple(phrase.split()): (kind, name)
        for kind, table in tables.items()
        for name, phrases in table.items()
        for phrase in phrases
    }


_MEANINGS = _meanings()
_LONGEST = max(map(len, _MEANINGS))


def _longest_match(words):
    for length in range(min(_LONGEST, len(words)), 0, -1):
        meaning = _MEANINGS.get(tuple(words[:length]))
        if meaning is not None:
            return length, *meaning
    return 1, None, None
