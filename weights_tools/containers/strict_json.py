"""JSON of a file that nobody vouches for."""

from __future__ import annotations

import json
from typing import Any

from weights_tools.containers.errors import shortened


class StrictJsonError(ValueError):
    """Text is not JSON, or means more than one thing."""


def parse_strictly(text: bytes) -> Any:
    """Parse JSON in UTF-8 in which no name stands twice in an object.

    Args:
        text: the encoded text.

    Returns:
        What it says, in Python's types.

    Raises:
        StrictJsonError: if it is not such JSON.

    Example:
    ```python
    parse_strictly(b'{"shape": [3, 4]}')  # {"shape": [3, 4]}
    ```
    """
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_no_constant,
        )
    except StrictJsonError:
        raise
    except RecursionError as error:
        raise StrictJsonError("is nested too deeply") from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are such.
        raise StrictJsonError(f"is not JSON in UTF-8: {error}") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise StrictJsonError(f"has the name {shortened(name)} twice")
        found[name] = value
    return found


def _no_constant(name: str) -> None:
    raise StrictJsonError(f"is not JSON in UTF-8: {name} is no number of it")
