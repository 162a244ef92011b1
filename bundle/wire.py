"""The protobuf wire format: messages cut into fields, strictly. Knows nothing about ONNX.

https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from typing import NamedTuple

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_MOST_FIELDS = 200_000  # of one message; unpacked numbers count one each


class MalformedError(ValueError):
    """The bytes are not a message of the schema."""


class Kind(Enum):
    """What a field may hold."""

    NUMBER = "one number"
    NUMBERS = "numbers, packed or not"
    PART = "one string, bytes or message"
    PARTS = "strings, bytes or messages"


class Schema(NamedTuple):
    """A message's name, for errors, and every field that it may have, by field number.

    `skipped`: those that may hold anything, and are not kept.
    """

    name: str
    fields: Mapping[int, tuple[str, Kind]]
    skipped: Collection[int] = ()


class Message:
    """The fields of one message, by name. Numbers are unsigned, as the wire has them."""

    def __init__(self) -> None:
        self._numbers: dict[str, list[int]] = {}
        self._parts: dict[str, list[memoryview]] = {}

    def number(self, field: str) -> int:
        """Return a number, or 0."""
        return self._numbers.get(field, [0])[0]

    def numbers(self, field: str) -> tuple[int, ...]:
        """Return every number of a field."""
        return tuple(self._numbers.get(field, ()))

    def parts(self, field: str) -> list[memoryview]:
        """Return every part of a field, uncopied."""
        return self._parts.get(field, [])

    def texts(self, field: str) -> tuple[str, ...]:
        """Return every part of a field as text. Raises UnicodeDecodeError."""
        return tuple(str(part, "utf-8") for part in self.parts(field))

    def text(self, field: str) -> str:
        """Return a part as text, or "". Raises UnicodeDecodeError."""
        return "".join(self.texts(field)[:1])

    def __contains__(self, field: str) -> bool:
        return field in self._numbers or field in self._parts

    def add(self, field: str, kind: Kind, value: int | memoryview) -> None:
        """Take in one field as the wire gives it. Raises MalformedError where its kind does not allow it."""
        if kind in (Kind.NUMBER, Kind.PART) and field in self:
            raise MalformedError(f"{field} is given twice")
        if isinstance(value, int) and kind in (Kind.NUMBER, Kind.NUMBERS):
            self._numbers.setdefault(field, []).append(value)
        elif isinstance(value, memoryview) and kind in (Kind.PART, Kind.PARTS):
            self._parts.setdefault(field, []).append(value)
        elif isinstance(value, memoryview) and kind is Kind.NUMBERS:
            self._numbers.setdefault(field, []).extend(_packed(value))
        else:
            raise MalformedError(f"{field} has the wrong wire type")


def read_message(schema: Schema, data: memoryview) -> Message:
    """Cut one message into its fields. Raises MalformedError where a field is unknown, wrong or cut off."""
    message = Message()
    try:
        for count, (field, value) in enumerate(_fields(data)):
            if count == _MOST_FIELDS:
                raise MalformedError(f"more than {_MOST_FIELDS} fields")
            if field in schema.skipped:
                continue
            if field not in schema.fields:
                raise MalformedError(f"field {field} is unknown")
            message.add(*schema.fields[field], value)
    except MalformedError as error:
        raise MalformedError(f"{schema.name}: {error}") from None
    return message


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        field, wire_type = tag >> 3, tag & 7
        if not 1 <= field < 2**29:
            raise MalformedError(f"there is no field {field}")
        if wire_type == _VARINT:
            number, position = _varint(data, position)
            yield field, number
            continue
        if wire_type == _LENGTH_DELIMITED:
            length, position = _varint(data, position)
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise MalformedError(f"field {field} has wire type {wire_type}, which is not in use")
        end = position + length
        if end > len(data):
            raise MalformedError(f"field {field} is cut off")
        yield field, data[position:end]
        position = end


def _packed(data: memoryview) -> list[int]:
    numbers, position = [], 0
    while position < len(data):
        number, position = _varint(data, position)
        numbers.append(number)
    return numbers


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """Return an unsigned number of at most 64 bits and the position after it."""
    number = 0
    for shift in range(0, 70, 7):
        if position == len(data):
            raise MalformedError("a number is cut off")
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number >= 2**64:
                break
            return number, position
    raise MalformedError("a number is longer than 64 bits")
