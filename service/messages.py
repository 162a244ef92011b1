"""What the front and an engine process say to each other, in frames of msgpack. Plain data.

Times are seconds of the monotonic clock, which all processes of a machine share.
"""

import struct
from collections.abc import Iterator

import msgspec
from msgspec import Struct, field

from service.hypothesis import Hypothesis, Outcome
from service.options import Options

LENGTH = struct.Struct("!I")


class Start(Struct, tag=True, array_like=True):
    """To an engine: which bundle to serve, and how. Answered with Ready or Failed."""

    folder: str
    profile: str
    device: str
    rows: int
    express_rows: int
    threads: int
    encode_tokens: int
    kernels: bool = True
    tf32: bool = False


class Batch(Struct, array_like=True):
    """Sequences on their way to an engine, alike but for their sources. Their ids count up from `first`."""

    first: int
    sources: list[list[int]]
    options: Options
    deadline: float
    arrived: float
    priority: int
    streams: bool


class Submit(Struct, tag=True, array_like=True):
    """To an engine: decode these."""

    batches: list[Batch]


class Cancel(Struct, tag=True, array_like=True):
    """To an engine: the callers of these left."""

    ids: list[int]


class Abort(Struct, tag=True, array_like=True):
    """To an engine: end everything inside, as drained."""


class Ready(Struct, tag=True, array_like=True):
    """From an engine: the golden cases passed. `difference`: the largest of a score, in natural-log units.

    A second one says that it has lost its device, and goes on elsewhere.
    """

    device: str
    difference: float
    fallback: str  # why the CPU and not CUDA, under auto
    profile: str = ""  # how numbers are computed there
    held_bytes: int = 0  # of a device, for rows
    runtime: str = ""  # what runs the graphs


class Failed(Struct, tag=True, array_like=True):
    """From an engine: it cannot serve the bundle, or no more, for it has lost its device."""

    reason: str


class Ended(Struct, array_like=True):
    """How a sequence ended. `started` and `first_token` are 0 where it did not come so far.

    `escalated`: it was a cascade, and went on to its beam.
    """

    id: int
    outcome: Outcome
    hypotheses: list[Hypothesis]
    started: float
    first_token: float
    finished: float
    escalated: bool = False


class Progress(Struct, array_like=True):
    """New tokens of a stream, never taken back, and their natural-log probabilities."""

    id: int
    tokens: list[int]
    scores: list[float]


class News(Struct, tag=True, array_like=True):
    """From an engine: what happened since the last news. At most one a step."""

    ended: list[Ended] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    step_rows: list[int] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)  # inside ONNX Runtime or the kernels
    encode_rows: list[int] = field(default_factory=list)
    encode_seconds: list[float] = field(default_factory=list)
    overhead_seconds: list[float] = field(default_factory=list)  # of a tick, outside those
    replays: int = 0  # steps that were a captured graph of a device


ToEngine = Start | Submit | Cancel | Abort
FromEngine = Ready | Failed | News
_encoder = msgspec.msgpack.Encoder()


def is_express(priority: int) -> bool:
    """Whether such a priority rides in the express lane; front and engine must agree."""
    return priority > 0


def frame(message: ToEngine | FromEngine) -> bytes:
    """A message with its length before it."""
    data = _encoder.encode(message)
    return LENGTH.pack(len(data)) + data


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self, kind: object) -> None:
        self._decoder: msgspec.msgpack.Decoder[object] = msgspec.msgpack.Decoder(kind)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[object]:
        """The messages that are complete with these bytes. Raises msgspec.DecodeError for nonsense."""
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= LENGTH.size:
            begin = start + LENGTH.size
            end = begin + LENGTH.unpack_from(self._buffer, start)[0]
            if end > len(self._buffer):
                break
            yield self._decoder.decode(memoryview(self._buffer)[begin:end])
            start = end
        del self._buffer[:start]
