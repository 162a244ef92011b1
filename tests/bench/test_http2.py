"""The client of load against gRPC's own server: what it sends is understood, and what comes back is read."""

import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from bench.answers import Question, framed, messages
from bench.http2 import (
    FRAME,
    HEADERS,
    MAX_CONCURRENT_STREAMS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Call,
    Connection,
    ConnectionLost,
    frame,
    header_blocks,
)

PATH = "/t.Echo/Echo"


def echo(message: bytes, _: Any) -> bytes:
    return message


def refuse(message: bytes, context: Any) -> bytes:
    if message.startswith(b"no"):
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    return message


def spell(message: bytes, _: Any) -> Iterator[bytes]:
    for letter in message:
        yield bytes([letter])


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Echo": grpc.unary_unary_rpc_method_handler(echo),
            "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
            "Spell": grpc.unary_stream_rpc_method_handler(spell),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Echo", methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(0).wait()


def ask(connection: Connection, *sent: bytes) -> list[Call]:
    """All of them at once; in the order in which they were sent."""
    calls = [connection.send(Question(framed(message), b"")) for message in sent]
    while len(connection):
        connection.receive()
    return calls


def test_each_call_gets_its_own_answer(address: str) -> None:
    sent = [str(number).encode() * (number % 50) for number in range(300)]
    with Connection(address, PATH) as connection:
        calls = ask(connection, *sent)
        again = ask(connection, *sent[:3])
    assert [call.data for call in calls] == [framed(message) for message in sent]
    assert {call.status for call in calls + again} == {0}
    assert all(0 < call.sent < call.first <= call.ended for call in calls)


def test_more_than_the_window_waits_for_room(address: str) -> None:
    sent = [bytes([number]) * 16_000 for number in range(50)]  # 800 kB; a window begins with 64
    with Connection(address, PATH) as connection:
        calls = ask(connection, *sent)
    assert [call.data for call in calls] == [framed(message) for message in sent]


def test_a_message_that_needs_several_frames_is_not_sent(address: str) -> None:
    with Connection(address, PATH) as connection, pytest.raises(ValueError, match="16384 are allowed"):
        connection.send(Question(bytes(16_385), b""))


def test_a_refusal_is_no_answer(address: str) -> None:
    with Connection(address, "/t.Echo/Refuse") as connection:
        calls = ask(connection, b"yes", b"no", b"no, thanks", b"yes again")
    with Connection(address, "/t.Echo/Nothing") as connection:
        unknown = ask(connection, b"?")
    assert [call.status for call in calls] == [0, 8, 8, 0]
    assert [call.status for call in unknown] == [12]


def test_a_stream_is_all_of_its_messages(address: str) -> None:
    with Connection(address, "/t.Echo/Spell") as connection:
        (call,) = ask(connection, b"chair")
    assert messages(call.data) == [b"c", b"h", b"a", b"i", b"r"]
    assert call.status == 0
    assert call.first <= call.ended


def test_nothing_to_hear_is_not_waited_for(address: str) -> None:
    with Connection(address, PATH) as connection:
        ask(connection, b"settings are read")
        while connection.receive(0.0):
            pass
        assert connection.receive(0.0) == []


def test_a_server_that_goes_away_is_an_error() -> None:
    stuck = threading.Event()

    def never(_: bytes, __: Any) -> bytes:
        stuck.wait()
        return b""

    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        handlers = {"Echo": grpc.unary_unary_rpc_method_handler(never)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Echo", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with Connection(f"127.0.0.1:{port}", PATH) as connection:
            call = connection.send(Question(framed(b"?"), b""))
            connection.receive()
            stopped = server.stop(None)
            with pytest.raises(ConnectionLost):
                while True:
                    connection.receive()
        stuck.set()
        stopped.wait()
    assert call.status != 0


def test_later_calls_name_the_headers_of_the_first() -> None:
    first, later = header_blocks(PATH, "localhost:1", 10)
    assert b"/t.Echo/Echo" in first
    assert b"application/grpc" in first
    assert b"10S" in first
    assert later == bytes([0x83, 0x86, 0xC2, 0xC1, 0xC0, 0xBF, 0xBE])  # static 3 and 6, dynamic 66 to 62


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, Connection]]:
    """A connection, and the end of a server that says what the test has it say."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Connection(f"127.0.0.1:{listener.getsockname()[1]}", PATH) as connection,
        listener.accept()[0] as server,
    ):
        yield server, connection


def test_a_connection_that_breaks_while_it_is_written_to_is_lost(
    line: tuple[socket.socket, Connection],
) -> None:
    server, connection = line
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()  # resets the connection at once
    connection.send(Question(framed(b"?"), b""))
    with pytest.raises(ConnectionLost, match="the connection broke"):
        connection._flush()


def streams(data: bytes) -> list[int]:
    """The streams that a client's frames, after the preface, begin."""
    found, place = [], len(PREFACE)
    while place < len(data):
        high, low, kind, _, stream = FRAME.unpack_from(data, place)
        place += FRAME.size + (high << 8 | low)
        if kind == HEADERS:
            found.append(stream)
    return found


def test_no_more_calls_than_the_server_takes_side_by_side(line: tuple[socket.socket, Connection]) -> None:
    server, connection = line
    server.sendall(frame(SETTINGS, 0, 0, struct.pack(">HL", MAX_CONCURRENT_STREAMS, 2)))
    connection.receive()  # what it takes is known now
    for _ in range(3):
        connection.send(Question(framed(b"?"), b""))
    server.sendall(frame(RST_STREAM, 0, 1, (8).to_bytes(4, "big")))
    (first,) = connection.receive()
    assert streams(server.recv(1 << 16)) == [1, 3]
    server.sendall(frame(RST_STREAM, 0, 3, (7).to_bytes(4, "big")))
    (second,) = connection.receive()
    assert streams(PREFACE + server.recv(1 << 16)) == [5]
    server.sendall(frame(RST_STREAM, 0, 5, (2).to_bytes(4, "big")))
    (third,) = connection.receive()
    assert [first.status, second.status, third.status] == [1, 14, -1]
    assert len(connection) == 0
