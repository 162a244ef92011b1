"""The compiled front itself: what it does with calls that no service of ours would see, and with its own."""

import asyncio
import ctypes.util
from collections.abc import AsyncIterator, Callable

import grpc
import pytest
from google.protobuf.message import DecodeError

from service import calls
from service.core_server import Call, CoreServer

pytestmark = pytest.mark.skipif(calls.load() is None, reason="needs libgrpc-dev, then `make native`")

Code = grpc.StatusCode
Open = Callable[..., grpc.aio.Channel]


@pytest.fixture
async def serve() -> AsyncIterator[Open]:
    """Serves the handlers given by name, as `test.Test`; afterwards every call must have ended."""
    running: list[tuple[CoreServer, grpc.aio.Channel]] = []

    async def start(**handlers) -> grpc.aio.Channel:
        server = CoreServer(
            calls.load(), (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 1000))
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
        server.add_registered_method_handlers("test.Test", handlers)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        running.append((server, grpc.aio.insecure_channel(f"127.0.0.1:{port}")))
        return running[-1][1]

    yield start
    for server, channel in running:
        await channel.close()
        async with asyncio.timeout(5):
            await server.stop(1)


async def code_of(call) -> Code:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def echo(message: bytes, _: Call) -> bytes:
    return message


async def count(message: bytes, call: Call) -> None:
    for number in range(int(message)):
        await call.write(b"%d" % number)


async def test_many_calls_at_once_each_get_their_own_answer(serve):
    channel = await serve(Echo=grpc.unary_unary_rpc_method_handler(echo))
    ask = channel.unary_unary("/test.Test/Echo")
    messages = [b"%d" % number * (number % 50) for number in range(2000)]
    assert await asyncio.gather(*(ask(message) for message in messages)) == messages


async def test_an_unknown_method_is_unimplemented(serve):
    channel = await serve(Echo=grpc.unary_unary_rpc_method_handler(echo))
    assert await code_of(channel.unary_unary("/test.Test/Else")(b"")) is Code.UNIMPLEMENTED
    assert await code_of(channel.unary_unary("/\xff")(b"")) is Code.UNIMPLEMENTED
    silent = channel.stream_stream("/test.Test/Else")()  # nobody waits for a message that may never come
    assert await silent.code() is Code.UNIMPLEMENTED


async def test_a_call_without_a_message_is_the_callers_fault(serve):
    channel = await serve(Echo=grpc.unary_unary_rpc_method_handler(echo))
    call = channel.stream_unary("/test.Test/Echo")()
    await call.done_writing()
    assert await code_of(call) is Code.INVALID_ARGUMENT


async def test_a_message_that_is_too_long_is_refused(serve):
    channel = await serve(Echo=grpc.unary_unary_rpc_method_handler(echo))
    assert await code_of(channel.unary_unary("/test.Test/Echo")(b"x" * 1001)) is Code.RESOURCE_EXHAUSTED


async def test_streams_of_every_kind(serve):
    async def twice(messages, _):
        async for message in messages:
            yield message
            yield message

    channel = await serve(
        Count=grpc.unary_stream_rpc_method_handler(count), Twice=grpc.stream_stream_rpc_method_handler(twice)
    )
    counted = [message async for message in channel.unary_stream("/test.Test/Count")(b"300")]
    assert counted == [b"%d" % number for number in range(300)]
    doubled = channel.stream_stream("/test.Test/Twice")(iter([b"a", b"b"]))
    assert [message async for message in doubled] == [b"a", b"a", b"b", b"b"]


async def test_a_reader_who_does_not_read_holds_the_writer_up(serve):
    written = 0

    async def flood(_: bytes, call: Call) -> None:
        nonlocal written
        while True:
            await call.write(bytes(100_000))
            written += 1

    channel = await serve(
        Flood=grpc.unary_stream_rpc_method_handler(flood), Echo=grpc.unary_unary_rpc_method_handler(echo)
    )
    call = channel.unary_stream("/test.Test/Flood")(b"")
    await call.read()
    halfway = 0
    for turn in range(600):  # the event loop turns, and the writer could write
        await channel.unary_unary("/test.Test/Echo")(b"")
        if turn == 300:
            halfway = written
    assert 0 < halfway == written
    call.cancel()


async def test_a_reader_who_reads_lets_the_writer_go_on(serve):
    channel = await serve(Count=grpc.unary_stream_rpc_method_handler(count))
    call = channel.unary_stream("/test.Test/Count")(b"5000")
    assert len([message async for message in call]) == 5000


async def test_who_hangs_up_cancels_the_handler(serve):
    entered, left = asyncio.Event(), asyncio.Event()

    async def wait(_: bytes, __: Call) -> bytes:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return b""

    channel = await serve(Wait=grpc.unary_unary_rpc_method_handler(wait))
    call = channel.unary_unary("/test.Test/Wait")(b"")
    await entered.wait()
    call.cancel()
    await asyncio.wait_for(left.wait(), 5)


async def test_deadlines_reach_the_handler(serve):
    seen = []

    async def look(_: bytes, call: Call) -> bytes:
        seen.append(call.time_remaining())
        return b""

    channel = await serve(Look=grpc.unary_unary_rpc_method_handler(look))
    await channel.unary_unary("/test.Test/Look")(b"")
    await channel.unary_unary("/test.Test/Look")(b"", timeout=60)
    assert seen[0] is None and 50 < seen[1] < 61  # gRPC rounds it up


async def test_what_a_handler_throws_stays_inside(serve, caplog):
    async def fail(_: bytes, __: Call) -> bytes:
        raise RuntimeError("a secret")

    channel = await serve(Fail=grpc.unary_unary_rpc_method_handler(fail))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/test.Test/Fail")(b"")
    assert (caught.value.code(), caught.value.details()) == (Code.INTERNAL, "internal error")
    assert "a secret" in caplog.text


async def test_what_cannot_be_parsed_is_the_callers_fault(serve):
    def parse(data: bytes) -> bytes:
        if data == b"bad":
            raise DecodeError("a secret")
        return data

    async def twice(messages, _):
        async for message in messages:
            yield message * 2

    channel = await serve(
        Echo=grpc.unary_unary_rpc_method_handler(echo, request_deserializer=parse),
        Twice=grpc.stream_stream_rpc_method_handler(twice, request_deserializer=parse),
    )
    with pytest.raises(grpc.aio.AioRpcError, match="not a message of this method") as once:
        await channel.unary_unary("/test.Test/Echo")(b"bad")
    heard = []
    with pytest.raises(grpc.aio.AioRpcError, match="not a message of this method") as second:
        async for message in channel.stream_stream("/test.Test/Twice")(iter([b"good", b"bad"])):
            heard.append(message)
    assert once.value.code() is second.value.code() is Code.INVALID_ARGUMENT
    assert heard == [b"goodgood"]


async def test_a_stream_of_nothing_is_answered(serve):
    async def count(messages, _):
        yield b"%d" % len([message async for message in messages])

    channel = await serve(Count=grpc.stream_stream_rpc_method_handler(count))
    assert [message async for message in channel.stream_stream("/test.Test/Count")(iter([]))] == [b"0"]


async def test_a_status_has_its_details_and_metadata(serve):
    trailers = (("why", "because"), ("more-bin", b"\x00\xff"))

    async def refuse(_: bytes, call: Call) -> None:
        await call.abort(Code.NOT_FOUND, "näh", trailers)

    channel = await serve(Refuse=grpc.unary_unary_rpc_method_handler(refuse))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/test.Test/Refuse")(b"")
    assert (caught.value.code(), caught.value.details()) == (Code.NOT_FOUND, "näh")
    assert tuple(caught.value.trailing_metadata()) == trailers


async def test_an_address_that_is_taken_raises(serve):
    await serve()
    first = CoreServer(calls.load(), (("grpc.so_reuseport", 0),))
    port = first.add_insecure_port("127.0.0.1:0")
    with pytest.raises(RuntimeError):
        CoreServer(calls.load(), (("grpc.so_reuseport", 0),)).add_insecure_port(f"127.0.0.1:{port}")
    await first.start()
    await first.stop(0)


async def test_the_stop_ends_those_who_do_not_end(caplog):
    entered = asyncio.Event()

    async def wait(_: bytes, __: Call) -> bytes:
        entered.set()
        return await asyncio.Event().wait()

    server = CoreServer(calls.load(), ())
    handlers = {"Wait": grpc.unary_unary_rpc_method_handler(wait)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    server.add_registered_method_handlers("test.Test", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/test.Test/Wait")(b"")
        await entered.wait()
        async with asyncio.timeout(5):
            await server.stop(0.1)
        assert await code_of(call) in (Code.CANCELLED, Code.UNAVAILABLE)
    assert "never ended" not in caplog.text


async def test_the_front_says_when_a_call_was_forgotten(caplog, monkeypatch):
    """The negative control of what the fixtures look for."""
    server = CoreServer(calls.load(), ())
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", {}),))
    server.add_registered_method_handlers("test.Test", {})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    monkeypatch.setattr(Call, "_ends", lambda _: False)
    monkeypatch.setattr("service.core_server.CANCELLED_SECONDS", 0.1)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/test.Test/Nothing")(b"", timeout=0.2)
    await server.stop(0.1)
    assert "never ended" in caplog.text


def test_a_library_of_another_version_is_left_alone(monkeypatch, caplog):
    """grpc.aio takes the calls then."""
    caplog.set_level("WARNING")
    monkeypatch.setattr(calls, "LIBRARY", ctypes.util.find_library("c"))
    assert calls.load.__wrapped__() is None
    assert "`make native` compiles it anew" in caplog.text
