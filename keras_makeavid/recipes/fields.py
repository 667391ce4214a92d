"""Fields of a recipe's tables, each with the rule that its values obey."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

from keras_makeavid.recipes.duration import Duration

REQUIRED = dataclasses.MISSING


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a key allows.

    Args:
        says: the values that are allowed, in words.
        read: turns a value of TOML into the field's, or raises `ValueError`.
    """

    says: str
    read: Callable[[Any], Any]


def whole(default=REQUIRED, least: int = 0):
    """A whole number of at least `least`; with the default `None` it may be left out.

    Example:
    ```python
    whole(1, least=1)
    ```
    """

    def read(value):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(value)
        return value

    return _field(default, f"a whole number of at least {least}", read)


def number(default=REQUIRED, *, least=None, above=None, most=None, below=None):
    """A finite number within bounds.

    Example:
    ```python
    number(0.02, least=0)
    ```
    """
    bounds = {"at least": least, "above": above, "at most": most, "below": below}
    says = " and ".join(f"{k} {v:g}" for k, v in bounds.items() if v is not None)

    def read(value):
        fits = (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and (least is None or value >= least)
            and (above is None or value > above)
            and (most is None or value <= most)
            and (below is None or value < below)
        )
        if not fits:
            raise ValueError(value)
        return float(value)

    return _field(default, f"a number, {says}" if says else "a number", read)


def switch(default, or_one_of: tuple[str, ...] = ()):
    """`true` or `false`, or something between them."""

    def read(value):
        if not isinstance(value, bool) and value not in or_one_of:
            raise ValueError(value)
        return value

    says = ["true", "false", *map(repr, or_one_of)]
    return _field(default, f"{', '.join(says[:-1])} or {says[-1]}", read)


def text(default=REQUIRED):
    """A string that is not empty."""
    return _field(default, "a string that is not empty", _read_text)


def texts(default=REQUIRED):
    """A list of strings that are not empty."""

    def read(value):
        if not isinstance(value, list):
            raise ValueError(value)
        return tuple(_read_text(item) for item in value)

    return _field(default, "a list of strings that are not empty", read)


def pattern(default=REQUIRED, words: tuple[str, ...] = ()):
    """A regular expression, or one of the `words` that mean something else."""

    def read(value):
        try:
            re.compile(_read_text(value))
        except re.error as error:
            raise ValueError(value) from error
        return value

    says = "".join(f"{word!r}, " for word in words)
    says += ("or " if words else "") + "a regular expression on the paths of layers"
    return _field(default, says, read)


def choice(default, options: tuple[str, ...]):
    """One of some strings."""

    def read(value):
        if value not in options:
            raise ValueError(value)
        return value

    return _field(default, f"one of {', '.join(map(repr, options))}", read)


def duration(default=REQUIRED, least_steps: int = 0):
    """A `Duration`, written such as `"2 epochs"`; `least_steps` of 1 forbids none."""

    def read(value):
        parsed = Duration.parse(value)
        if least_steps and not parsed.amount:
            raise ValueError(value)
        return parsed

    says = "a duration such as '2 epochs', '0.5 epochs' or '1000 steps'"
    if isinstance(default, str):
        default = Duration.parse(default)
    return _field(default, says + (" above 0" if least_steps else ""), read)


def table(kind: type, optional: bool = False):
    """Another table: left out it is its defaults, or `None` if `optional`."""
    default = None if optional else REQUIRED
    return dataclasses.field(default=default, metadata={"table": kind})


def _field(default, says, read):
    return dataclasses.field(default=default, metadata={"rule": Rule(says, read)})


def _read_text(value):
    if not isinstance(value, str) or not value.strip():
        raise ValueError(value)
    return value
