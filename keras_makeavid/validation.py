"""Values from outside checked against types: recipes, configurations, options.

Every error in a value is told at once, with the path of its key.
"""

import difflib
import math
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

T = TypeVar("T")

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlevel = 3
# What was received, short enough for the text of an error.
shown = _SHORT.repr


def refusal(expected: str, received: object) -> ValueError:
    """The error that says what was expected, and what was received."""
    return ValueError(f"{expected}. Received: {shown(received)}")


def check_choice(name: str, value: object, choices: Collection[Any]) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices:
        raise refusal(f"{name} must be one of {list(choices)}", value)


def check_least(least: float, **values: float | None) -> None:
    """Refuse numbers below `least`, by their names; one that is `None` is none."""
    for name, value in values.items():
        if value is not None and not value >= least:
            raise refusal(f"{name} must be at least {least}", value)


class ValidationError(ValueError):
    """What is wrong with a value from `source`: one line for each problem."""

    def __init__(self, source: object, problems: Sequence[str]):
        super().__init__(source, problems)
        self.source = source
        self.problems = problems

    def __str__(self) -> str:
        count = len(self.problems)
        errors = "an error" if count == 1 else f"{count} errors"
        return "\n".join([f"{self.source} has {errors}:", *self.problems])


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base class of tables whose keys are all known.

    A key that is missing has its default. A table that is missing is made of defaults,
    and so each of its keys without one is told by name.
    """

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield keys that do not fit one another, and what they must be."""
        yield from ()


def validate(value: Any, kind: type[T], source: object) -> T:
    """Make an instance of a type out of a value in the types of JSON or TOML.

    Nothing is converted but whole numbers to float, and lists to tuples. Floats must be
    finite. A `ValidationError` names source and keys, what is allowed and received.

    The type is a `Table` or any that msgspec knows, with bounds as `Annotated[int,
    msgspec.Meta(ge=1)]`. `Meta(description=...)` says in words what is allowed, and
    `Meta(extra={"check": function})` adds a function that raises `ValueError` for what
    is not. A class with a class method `parse` is made by it.
    """
    problems: list[str] = []
    read = _read(value, kind, "", problems)
    if problems:
        raise ValidationError(source, problems)
    return read


def expectation(kind: Any) -> str:
    """Say in words what a type allows, such as "a whole number of at least 1"."""
    return _said(inspect.type_info(kind))


def _read(value: Any, kind: Any, path: str, problems: list[str]) -> Any:
    plain, is_optional = _plain(inspect.type_info(kind))
    if value is None and is_optional:
        return None
    if isinstance(plain, inspect.StructType):
        return _read_table(value, plain.cls, path, problems)
    if isinstance(plain, inspect.VarTupleType) and isinstance(value, list | tuple):
        row, _ = _plain(plain.item_type)
        if isinstance(row, inspect.StructType) and len(value) >= (
            plain.min_length or 0
        ):
            return tuple(
                _read_table(entry, row.cls, _row_path(path, entry, number), problems)
                for number, entry in enumerate(value, start=1)
            )
    try:
        parse = getattr(getattr(plain, "cls", None), "parse", None)
        read = parse(value) if parse else msgspec.convert(value, kind)
        _check_finite(read)
        for check in _checks(inspect.type_info(kind)):
            check(read)
        return read
    except (ValueError, RecursionError):
        where = path or "It"
        expected = expectation(kind)
        problems.append(f"{where} must be {expected}. Received: {shown(value)}")
        return None


def _read_table(value: Any, kind: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(value, Mapping):
        where = path or "It"
        problems.append(f"{where} must be a table. Received: {shown(value)}")
        return None
    before = len(problems)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    if kind.__struct_config__.forbid_unknown_fields:
        problems += [_unknown(path, key, fields) for key in value if key not in fields]
    read = {}
    for key, field in fields.items():
        here = _joined(path, key)
        if key in value:
            read[field.name] = _read(value[key], field.type, here, problems)
        elif field.required and isinstance(
            _plain(inspect.type_info(field.type))[0], inspect.StructType
        ):
            read[field.name] = _read({}, field.type, here, problems)
        elif field.required:
            problems.append(f"{here} is missing: {expectation(field.type)}")
    if len(problems) > before:
        return None
    table = kind(**read)
    for key, problem in getattr(table, "problems", tuple)():
        problems.append(f"{_joined(path, key)} {problem}")
    return table


def _plain(info: inspect.Type) -> tuple[inspect.Type, bool]:
    """A type without its metadata, and whether it may be `None` instead."""
    if isinstance(info, inspect.Metadata):
        return _plain(info.type)
    if isinstance(info, inspect.UnionType) and info.includes_none:
        others = [t for t in info.types if not isinstance(t, inspect.NoneType)]
        if len(others) == 1:
            return _plain(others[0])[0], True
        return info, True
    return info, False


def _check_finite(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for entry in value:
        _check_finite(entry)


def _checks(info: inspect.Type) -> Iterator[Callable[[Any], Any]]:
    if isinstance(info, inspect.Metadata):
        if info.extra and "check" in info.extra:
            yield info.extra["check"]
        yield from _checks(info.type)
    elif isinstance(info, inspect.UnionType):
        for member in info.types:
            yield from _checks(member)


def _said(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata():
            described = (info.extra_json_schema or {}).get("description")
            return described or _said(info.type)
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return f"one of {', '.join(map(repr, info.values))}"
        case inspect.IntType():
            return f"a whole number{_bounds(info, ' of ')}"
        case inspect.FloatType():
            return f"a number{_bounds(info, ', ')}"
        case inspect.StrType():
            short = info.min_length or info.pattern
            return "a string that is not empty" if short else "a string"
        case inspect.ListType() | inspect.VarTupleType():
            fewest, most = info.min_length, info.max_length
            length = f" of {fewest or 0} to {most} entries" if most else ""
            return f"a list{length}, each {_said(info.item_type)}"
        case inspect.TupleType():
            return f"a list of {' and '.join(map(_said, info.item_types))}"
        case inspect.UnionType():
            others = [t for t in info.types if not isinstance(t, inspect.NoneType)]
            return " or ".join(map(_said, others))
        case inspect.CustomType() | inspect.DataclassType():
            return f"a {info.cls.__name__.lower()}"
    return "a table"


def _bounds(info: inspect.IntType | inspect.FloatType, before: str) -> str:
    each = {"at least": info.ge, "above": info.gt, "at most": info.le, "below": info.lt}
    said = [
        f"{word} {bound:g}" if isinstance(bound, float) else f"{word} {bound}"
        for word, bound in each.items()
        if bound is not None
    ]
    return before + " and ".join(said) if said else ""


def _unknown(path: str, key: Any, known: Mapping[str, Any]) -> str:
    nearest = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(known)}"
    return f"{_joined(path, str(key)[:80])} is unknown: {hint}"


def _row_path(path: str, row: Any, number: int) -> str:
    name = row.get("name") if isinstance(row, Mapping) else None
    return _joined(path, name if isinstance(name, str) else number)


def _joined(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
