"""A gRPC client of load: one HTTP/2 connection, on which calls of one method run side by side.

A full client costs as much processor time a call as the server that it measures. This one writes each
request as two frames, and reads of a response its messages, its status and nothing else. Knows nothing of
protobuf, and never more than one method. Frames are those of RFC 9113, header blocks those of RFC 7541.
"""

import re
import select
import socket
import struct
import time
from collections import deque

from bench.answers import Question

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 3, 4  # settings
LARGEST_WINDOW = 2**31 - 1
FIRST_WINDOW = 65_535
LARGEST_FRAME = 16_384  # that every server takes
FRAME = struct.Struct(">HBBBL")  # length in 24 bits, type, flags, stream
SETTING = struct.Struct(">HL")  # which, and its value
READ_BYTES = 1 << 18
SILENCE_SECONDS = 30

RESETS = {7: 14, 8: 1}  # a refused stream is UNAVAILABLE, a cancelled one CANCELLED
STATUS = re.compile(rb"grpc-status.(\d+)", re.DOTALL)


class ConnectionLost(Exception):
    """The server closed the connection, broke the protocol, or was silent for too long."""


class Call:
    """One call: when it was sent, when its first message and its end came (seconds), and what came.

    `data` holds the messages, each behind gRPC's five bytes; `status` is a gRPC code, -1 for a broken stream.
    """

    __slots__ = ("data", "ended", "first", "question", "sent", "status")

    def __init__(self, question: Question, sent: float) -> None:
        self.question = question
        self.sent = sent
        self.first = self.ended = 0.0
        self.data = b""
        self.status = -1


class Connection:
    """Calls of `/service/method` at `host:port`, each with a deadline. Raises OSError, ConnectionLost."""

    def __init__(self, address: str, path: str, deadline_seconds: int = 10) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=SILENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The kernel keeps the time: a time-out of Python's would cost one more system call for each read.
        self._socket.setblocking(True)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", SILENCE_SECONDS, 0))
        self._first_block, self._block = header_blocks(path, address, deadline_seconds)
        self._stream = -1
        self._calls: dict[int, Call] = {}
        self._unsent: deque[Call] = deque()
        self._window = FIRST_WINDOW  # bytes that the server still takes on this connection
        self._most = LARGEST_WINDOW  # calls that it takes side by side
        self._received = 0  # bytes of data since the last word about our own window
        self._rest = b""
        # Without a table, the server repeats every header: the same status is always the same bytes.
        settings = struct.pack(">HLHL", HEADER_TABLE_SIZE, 0, INITIAL_WINDOW_SIZE, LARGEST_WINDOW)
        widen = (LARGEST_WINDOW - FIRST_WINDOW).to_bytes(4, "big")
        self._out = [PREFACE, frame(SETTINGS, 0, 0, settings), frame(WINDOW_UPDATE, 0, 0, widen)]

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def __len__(self) -> int:
        """Calls that have not ended."""
        return len(self._calls) + len(self._unsent)

    def send(self, question: Question) -> Call:
        """Begins a call. It leaves with the next `receive`. Raises ValueError for a message over 16 KiB."""
        if len(question.request) > LARGEST_FRAME:
            raise ValueError(f"a message of {len(question.request)} bytes; {LARGEST_FRAME} are allowed")
        call = Call(question, time.perf_counter())
        self._unsent.append(call)
        return call

    def receive(self, seconds: float | None = None) -> list[Call]:
        """Sends what is to be sent, waits for news (`seconds` at most), and returns the calls that ended."""
        self._flush()
        if seconds is not None and not select.select([self._socket], [], [], max(0.0, seconds))[0]:
            return []
        try:
            received = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            raise ConnectionLost(f"no word from the server for {SILENCE_SECONDS} s") from None
        except OSError as error:
            raise ConnectionLost(f"the connection broke: {error.strerror}") from error
        if not received:
            raise ConnectionLost("the server closed the connection")
        return self._read(self._rest + received, time.perf_counter())

    def _flush(self) -> None:
        """Writes what the server has room for, in one piece."""
        out = self._out
        while self._unsent and len(self._calls) < self._most:
            if len(self._unsent[0].question.request) > self._window:
                break
            call = self._unsent.popleft()
            message = call.question.request
            self._stream += 2
            self._calls[self._stream] = call
            self._window -= len(message)
            block = self._block if self._stream > 1 else self._first_block
            out += (
                frame(HEADERS, END_HEADERS, self._stream, block),
                frame(DATA, END_STREAM, self._stream, message),
            )
        if out:
            try:
                self._socket.sendall(b"".join(out))
            except OSError as error:
                raise ConnectionLost(f"the connection broke: {error.strerror}") from error
            out.clear()

    def _read(self, buffer: bytes, now: float) -> list[Call]:
        ended: list[Call] = []
        place, size = 0, len(buffer)
        while size - place >= FRAME.size:
            high, low, kind, flags, stream = FRAME.unpack_from(buffer, place)
            begin = place + FRAME.size
            end = begin + (high << 8 | low)
            if end > size:
                break
            payload = buffer[begin:end]
            place = end
            if kind == DATA:
                self._received += len(payload)
                call = self._calls[stream]
                call.data += payload
                call.first = call.first or now
            elif kind == HEADERS and flags & END_STREAM:
                found = STATUS.search(payload)
                self._end(stream, int(found[1]) if found else -1, now, ended)
            elif kind == RST_STREAM:
                if stream in self._calls:
                    self._end(stream, RESETS.get(int.from_bytes(payload, "big"), -1), now, ended)
            elif kind != HEADERS:
                self._control(kind, flags, stream, payload)
            if (kind <= HEADERS and flags & PADDED) or kind == CONTINUATION:
                raise ConnectionLost("padding and split headers are not understood")
        self._rest = buffer[place:]
        return ended

    def _end(self, stream: int, status: int, now: float, ended: list[Call]) -> None:
        call = self._calls.pop(stream)
        call.status, call.ended = status, now
        ended.append(call)
        if self._received > LARGEST_WINDOW // 2:
            self._out.append(frame(WINDOW_UPDATE, 0, 0, self._received.to_bytes(4, "big")))
            self._received = 0

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """What concerns the connection as a whole."""
        if kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            self._most = dict(SETTING.iter_unpack(payload)).get(MAX_CONCURRENT_STREAMS, self._most)
            self._out.append(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self._out.append(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            raise ConnectionLost("the server says goodbye")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    size = len(payload)
    return FRAME.pack(size >> 8, size & 255, kind, flags, stream) + payload


def header_blocks(path: str, authority: str, deadline_seconds: int) -> tuple[bytes, bytes]:
    """The headers of a connection's first call, which fill the server's table, and of all others."""
    fields = (
        (4, "", path),  # index of the name in the static table, or the name
        (1, "", authority),
        (0, "te", "trailers"),
        (31, "", "application/grpc"),
        (0, "grpc-timeout", f"{deadline_seconds}S"),
    )
    fixed = b"\x83\x86"  # :method POST, :scheme http
    first = fixed + b"".join(
        bytes([0x40 | index]) + (text(name) if name else b"") + text(value) for index, name, value in fields
    )
    newest = 62  # the dynamic table begins here, its newest entry first
    return first, fixed + bytes(0x80 | newest + age for age in reversed(range(len(fields))))


def text(value: str) -> bytes:
    """A string of a header block, not compressed."""
    encoded = value.encode("ascii")
    assert len(encoded) < 127, "longer strings need a longer length"
    return bytes([len(encoded)]) + encoded
