"""JSON to checked structures and back. Knows nothing about what the structures mean."""

import json
from typing import Any, NoReturn, TypeVar

import msgspec

from bundle.errors import BundleError

Structure = TypeVar("Structure")


def encode(value: object) -> bytes:
    """Return indented UTF-8 JSON that ends in a newline; keys keep the order of the structure's fields."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def decode(file: str, data: bytes, structure: type[Structure]) -> Structure:
    """Read JSON strictly: every field of the right type; none missing, unknown or given twice; no NaN.

    Raises BundleError, which names `file` and the path of the wrong field.
    """
    refuse_loose_json(file, data)
    try:
        return msgspec.json.decode(data, type=structure)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BundleError(f"{file}: {error}") from error


def refuse_loose_json(file: str, data: bytes) -> None:
    """Raise BundleError for what some readers accept: a key given twice, NaN, infinity, endless nesting."""
    try:
        json.loads(data.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: not strict JSON: {error}") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in unique if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:64]!r} is given twice; once is allowed")
    return unique


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number; finite numbers are allowed")
