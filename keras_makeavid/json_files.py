"""JSON files, read strictly and written whole."""

import json
from pathlib import Path
from typing import Any

from keras_makeavid.files import StrPath, read_text, written_aside

# No file of ours comes near these. A hostile one must not decide how much is read.
MAX_BYTES = 2**26
_MOST_LEVELS = 64


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Read a JSON file; what is wrong is a `ValueError` that names the file."""
    return parse_json(read_text(path, max_bytes), path)


def read_object(path: StrPath, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read a JSON file that holds an object, as `read_json`."""
    value = read_json(Path(path), max_bytes)
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object. Received: {str(value)[:80]}")
    return value


def parse_json(text: str | bytes, source: Any) -> Any:
    """Parse JSON strictly: duplicate keys, NaN, Infinity and many levels are refused.

    Bytes must be UTF-8. The `ValueError` names `source`.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        if not text.strip():
            raise ValueError("it is empty")
        value = json.loads(
            text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
        )
        check_levels(value)
        return value
    except RecursionError as error:
        raise ValueError(f"{source} is not JSON: it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{source} is not JSON: {error}") from error


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write finite numbers as JSON, whole or not at all; on a line without `indent`."""
    text = json.dumps(value, indent=indent, allow_nan=False)
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def check_levels(value: Any) -> None:
    """Refuse lists and tables in one another beyond a depth that all code bears."""
    level = [value]
    for _ in range(_MOST_LEVELS):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ValueError(f"it is nested too deeply, beyond {_MOST_LEVELS} levels")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name[:80]!r} stands twice in an object")
        found[name] = value
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
