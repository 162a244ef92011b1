"""What is allowed where msgspec finds a value that is not. Knows nothing of what the values are for."""

import re

import msgspec
from msgspec import inspect


def with_what_is_allowed(error: msgspec.ValidationError, kind: type) -> str:
    """What an error of converting to a struct says, and the choices or fields that there are at its place."""
    text, _, place = str(error).partition(" - at `$")
    names = re.findall(r"\w+", place)
    found = _at(inspect.type_info(kind), names)
    place = f"{'.'.join(names)}: " if names else ""
    return f"{place}{text}{_allowed(text, found)}"


def _allowed(text: str, found: list[inspect.Type]) -> str:
    if "unknown field" in text:
        structs = [one for one in found if isinstance(one, inspect.StructType)]
        return f"; allowed are {', '.join(field.encode_name for one in structs for field in one.fields)}"
    values = [str(value) for one in found if isinstance(one, inspect.LiteralType) for value in one.values]
    if values:
        return f"; allowed are {', '.join(filter(None, values))}"
    return "; allowed are true and false" if any(isinstance(one, inspect.BoolType) for one in found) else ""


def _at(kind: inspect.Type, names: list[str]) -> list[inspect.Type]:
    """The kinds that a value at a place in a struct may be of."""
    kinds = [kind]
    for name in names:
        inside = _plain(kinds)
        kinds = [one.item_type for one in inside if isinstance(one, inspect.CollectionType)]
        kinds += [
            field.type
            for one in inside
            if isinstance(one, inspect.StructType)
            for field in one.fields
            if field.encode_name == name
        ]
    return _plain(kinds)


def _plain(kinds: list[inspect.Type]) -> list[inspect.Type]:
    """The same without unions around them, or descriptions."""
    found: list[inspect.Type] = []
    for kind in kinds:
        if isinstance(kind, inspect.UnionType):
            found += _plain(list(kind.types))
        elif isinstance(kind, inspect.Metadata):
            found += _plain([kind.type])
        else:
            found.append(kind)
    return found
