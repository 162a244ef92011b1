"""The compiled kernels of service/native/: found, loaded, and laid out for ctypes.

Knows nothing of bundles or rows. `make` compiles them once for each kind of processor, where there is a
compiler; a machine without them decodes through ONNX Runtime alone.
"""

import ctypes
import logging
import platform
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

log = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]

FOLDER = Path(__file__).resolve().parent.parent / "build" / "native"
KINDS = {  # of processor, the best first, and what /proc/cpuinfo must say of it
    "amx": {"amx_tile", "amx_int8", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"},
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"},
}


LINE_BYTES = 64  # of the cache


def in_lines(array: Array) -> Array:
    """A copy that begins with a line of the cache, so that no vector and no row of a tile straddles two.

    Where memory happened to lie otherwise, a step took a quarter longer.
    """
    room = np.empty(array.nbytes + LINE_BYTES, np.uint8)
    first = -room.ctypes.data % LINE_BYTES
    copy = room[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class Part(Structure):
    """Bytes that a product reads: `count` of each row, rows `stride` apart."""

    _fields_ = (("bytes", c_void_p), ("stride", c_int64), ("count", c_int64))


class Weights(Structure):
    """Packed weights, and what belongs to their columns. An absent bias is 0."""

    _fields_ = (
        ("weight", c_void_p),
        ("start", c_void_p),
        ("scale", c_void_p),
        ("bias", c_void_p),
        ("columns", c_int64),
    )


class Grid(Structure):
    """How floats become bytes: times `factor`, rounded, plus `zero`."""

    _fields_ = (("factor", c_float), ("zero", c_int32))


class Direction(Structure):
    """One encoder layer in one direction."""

    _fields_ = (
        ("read", Weights),
        ("back", Weights),
        ("table", c_void_p),
        ("units", c_int64),
        ("backwards", c_int64),
        ("grid", Grid),
    )


class Encoder(Structure):
    """All layers, and what leads from the last ones to the decoder."""

    _fields_ = (
        ("layers", c_int64),
        ("ways", c_int64),
        ("units", c_int64),
        ("directions", POINTER(Direction)),
        ("bridges", c_int64),
        ("hidden", c_int64),
        ("lowest", c_int64),
        ("first_hidden", POINTER(Weights)),
        ("first_cell", POINTER(Weights)),
        ("coarse", Grid),
        ("fine", Grid),
        ("attends", c_int64),
        ("keys", POINTER(Weights)),
    )


class Run(Structure):
    """One encoder run: which sources, where their states go, and room to work in."""

    _fields_ = (
        ("sources", c_int64),
        ("width", c_int64),
        ("lengths", c_void_p),
        ("ids", c_void_p),
        ("rows", c_void_p),
        ("hidden", POINTER(c_void_p)),
        ("cells", POINTER(c_void_p)),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("memory_width", c_int64),
        ("floats", c_void_p),
        ("bytes", c_void_p),
    )


LSTM, LINEAR, ATTEND, SELECT = range(4)


class Operation(Structure):
    """One thing that a decoder step does; which fields count depends on the kind."""

    _fields_ = (
        ("kind", c_int64),
        ("parts", c_int64),
        ("part", Part * 3),
        ("weights", Weights),
        ("units", c_int64),
        ("table", c_void_p),
        ("token", c_void_p),
        ("cell", c_void_p),
        ("next_cell", c_void_p),
        ("hidden", c_void_p),
        ("exact", c_void_p),
        ("out", c_void_p),
        ("stride", c_int64),
        ("query", c_void_p),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("lengths", c_void_p),
        ("alignments", c_void_p),
        ("width", c_int64),
        ("size", c_int64),
        ("next_token", c_void_p),
        ("next_score", c_void_p),
        ("largest", c_void_p),
        ("log_sum", c_void_p),
        ("barred", c_void_p),
    )


class Kernels(NamedTuple):
    """The library, and the kind of processor that it was compiled for."""

    library: Any
    kind: str


@cache
def load(folder: Path = FOLDER) -> Kernels | None:
    """The kernels for this processor, or None where none of this version were compiled."""
    for kind, needed in KINDS.items():
        file = folder / f"kernels-{kind}.so"
        if needed <= _features() and file.is_file():
            try:
                library = _declared(ctypes.CDLL(str(file)))
            except AttributeError:
                log.warning("kernels of another version are left alone: `make native` compiles them anew")
                continue
            if library.chairlift_prepare() == 0:
                return Kernels(library, kind)
    return None


def _features() -> set[str]:
    if platform.machine() not in ("x86_64", "AMD64"):
        return set()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    return set(text.partition("flags")[2].partition("\n")[0].split())


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    number, place = c_int64, c_void_p
    for name, arguments in {
        "encode": (POINTER(Encoder), POINTER(Run)),
        "step": (POINTER(Operation), number, number, number),
        "steps": (POINTER(Operation), POINTER(Operation), number, number, number, number, place, place),
        "distributions": (POINTER(Operation), place, number, number, place, place, place),
    }.items():
        function = getattr(library, f"chairlift_{name}")
        function.argtypes, function.restype = arguments, None
    library.chairlift_prepare.restype = library.chairlift_steps.restype = c_int64
    return library
