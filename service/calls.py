"""The compiled front of service/native/calls.c: found, loaded, and laid out for ctypes.

Knows nothing of handlers or event loops. `make` compiles it where gRPC's C library is installed with its
headers (Debian: libgrpc-dev); elsewhere grpc.aio takes the calls.
"""

import ctypes
import logging
import struct
from collections.abc import Iterator, Sequence
from ctypes import POINTER, Structure, c_char_p, c_int32, c_int64, c_void_p
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

LIBRARY = Path(__file__).resolve().parent.parent / "build" / "native" / "calls.so"
LAYOUT = struct.Struct("=Qdiiq")  # call, deadline, kind, method, bytes of the message

Metadata = Sequence[tuple[str, str | bytes]]


class Kind(IntEnum):
    """What has happened to a call; STOPPED: to the server."""

    ARRIVED, READ, SENT, GONE, STOPPED = range(5)


class Event(NamedTuple):
    """Something that happened. `deadline`: on the monotonic clock; `message`: None where there is none.

    `method`: its number among those that the server was opened with; -1: none of them.
    """

    call: int
    deadline: float
    kind: int
    method: int
    message: bytes | None


class Text(Structure):
    """Bytes, and how many."""

    _fields_ = (("bytes", c_char_p), ("count", c_int64))


class Pair(Structure):
    """One entry of metadata."""

    _fields_ = (("key", Text), ("value", Text))


@cache
def load() -> Any:
    """The compiled front; None where none of this version was compiled, or gRPC's C library is not there."""
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError:
        return None
    signatures: dict[str, tuple[Any, Any]] = {
        "open": (
            c_void_p,
            (
                *(c_char_p, POINTER(c_char_p), c_int32, POINTER(c_char_p), POINTER(c_int32), c_int64),
                *(c_int32, POINTER(c_int32)),
            ),
        ),
        "start": (c_int32, (c_void_p,)),
        "take": (c_int64, (c_void_p, POINTER(c_void_p))),
        "read": (c_int32, (c_void_p,)),
        "send": (c_int32, (c_void_p, c_char_p, c_int64)),
        "finish": (None, (c_void_p, c_char_p, c_int64, c_int32, Text, POINTER(Pair), c_int64)),
        "leave": (None, (c_void_p,)),
        "reset": (None, (c_void_p,)),
        "stop": (None, (c_void_p,)),
        "cancel": (None, (c_void_p,)),
        "close": (c_int64, (c_void_p,)),
    }
    try:
        for name, (result, arguments) in signatures.items():
            function = getattr(library, f"calls_{name}")
            function.restype, function.argtypes = result, arguments
    except AttributeError:
        log.warning("the compiled front is another version's, and left alone: `make native` compiles it anew")
        return None
    return library


def events(data: bytes) -> Iterator[Event]:
    """The events in what `calls_take` gave."""
    at = 0
    while at < len(data):
        call, deadline, kind, method, count = LAYOUT.unpack_from(data, at)
        first = at + LAYOUT.size
        at = first + max(0, count)
        yield Event(call, deadline, kind, method, data[first:at] if count >= 0 else None)


def text(value: str | bytes) -> Text:
    """As C wants it."""
    data = value if isinstance(value, bytes) else value.encode()
    return Text(data, len(data))


def pairs(metadata: Metadata) -> Any:
    """As C wants it."""
    return (Pair * len(metadata))(*(Pair(text(key), text(value)) for key, value in metadata))
