"""grpc.aio.Server, as far as we use it, over the compiled front of service/native/calls.c.

Knows nothing of our services: it takes the handlers that grpc, its health and its reflection packages make,
and gives them a context. grpc.aio leads each operation of a call through the event loop; here a call comes as
one event, many of them at a time, and its answer is one function call.
"""

import asyncio
import ctypes
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from ctypes import byref, c_char_p, c_int32, c_void_p
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from service.calls import Kind, Metadata, events, pairs, text
from service.pollers import POLLER_NICENESS

log = logging.getLogger(__name__)

CANCELLED_SECONDS = 5.0  # after which a cancelled call must be over
NOTHING = text(b"")

Handler = Any  # grpc.RpcMethodHandler
Serialise = Callable[[Any], bytes]
Options = Sequence[tuple[str, int]]


class Call:
    """One call, and the context of its handler: of grpc.aio.ServicerContext what ours use.

    It ends once: with a message, with a status, or because the caller is gone. Then it leaves `calls`, since
    its address may be another call's next.
    """

    __slots__ = ("_address", "_calls", "_deadline", "_library", "_serialise", "_waiting")

    def __init__(
        self,
        library: Any,
        calls: "dict[int, Call]",
        address: int,
        deadline: float,
        serialise: Serialise = bytes,
    ) -> None:
        self._library = library
        self._calls = calls
        self._address = address
        self._deadline = deadline
        self._serialise = serialise
        self._waiting: asyncio.Future[bytes | None] | None = None
        calls[address] = self

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None where he set none."""
        return None if math.isinf(self._deadline) else max(0.0, self._deadline - time.monotonic())

    async def write(self, response: Any) -> None:
        """Sends one message of a stream, and waits until it may be followed by another."""
        message = self._serialise(response)
        if not self._ended and self._library.calls_send(self._address, message, len(message)):
            await self._event()

    async def read(self) -> bytes | None:
        """The next message of the caller's stream; None after its last."""
        if not self._ended and self._library.calls_read(self._address):
            return await self._event()
        return None

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> None:
        """Ends the call with a status. Never returns: raises grpc.aio.AbortError."""
        self.end(code, details, trailing_metadata)
        raise grpc.aio.AbortError

    def answer(self, response: Any) -> None:
        """Ends the call with its only message, if it has not ended yet."""
        message = self._serialise(response)
        if self._ends():
            self._library.calls_finish(self._address, message, len(message), 0, NOTHING, None, 0)

    def end(self, code: grpc.StatusCode, details: str = "", metadata: Metadata = ()) -> None:
        """Ends the call with a status, if it has not ended yet."""
        if self._ends():
            status, count = code.value[0], len(metadata)
            self._library.calls_finish(self._address, None, -1, status, text(details), pairs(metadata), count)

    def leave(self) -> None:
        """Ends the call without a word: the caller is gone."""
        if self._ends():
            self._library.calls_leave(self._address)

    def reset(self) -> None:
        """Cuts the call off, whose caller reads nothing, if it has not ended yet."""
        if self._ends():
            self._library.calls_reset(self._address)

    def happened(self, message: bytes | None) -> None:
        """What `write` or `read` waited for has come."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(message)

    @property
    def _ended(self) -> bool:
        return self._calls.get(self._address) is not self

    def _ends(self) -> bool:
        """Ends it; False if it has ended already."""
        ends = not self._ended
        if ends:
            del self._calls[self._address]
        return ends

    async def _event(self) -> bytes | None:
        self._waiting = asyncio.get_running_loop().create_future()
        return await self._waiting


class CoreServer:
    """Takes handlers and one address, then calls: `start`, `stop`."""

    def __init__(self, library: Any, options: Options) -> None:
        self._library = library
        self._options = options
        self._names: list[bytes] = []  # of methods, as in `/package.Service/Method`
        self._handlers: list[Handler] = []  # of the same
        self._calls: dict[int, Call] = {}
        self._tasks: dict[Call, asyncio.Task[None]] = {}
        self._stopping = False
        self._stopped = asyncio.Event()
        self._server = self._wake = 0
        self._bytes = c_void_p()

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """As grpc.aio; whoever calls this also calls `add_registered_method_handlers`, which is enough."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """As grpc.aio, before the port is bound."""
        for name, handler in handlers.items():
            self._names.append(f"/{service}/{name}".encode())
            self._handlers.append(handler)

    def add_insecure_port(self, address: str) -> int:
        """Binds, and returns the port. Raises RuntimeError."""
        count = len(self._options)
        methods = (c_char_p * len(self._names))(*self._names)
        names = (c_char_p * count)(*(name.encode() for name, _ in self._options))
        values = (c_int32 * count)(*(value for _, value in self._options))
        port = c_int32()
        self._server = self._library.calls_open(
            *(address.encode(), methods, len(methods), names, values, count, POLLER_NICENESS, byref(port))
        )
        if not self._server:
            raise RuntimeError(f"{address} cannot be bound")
        return port.value

    async def start(self) -> None:
        """Takes calls from now on."""
        self._wake = self._library.calls_start(self._server)
        asyncio.get_running_loop().add_reader(self._wake, self._take)

    async def stop(self, grace: float) -> None:
        """Closes the port and tells clients to go elsewhere; calls still inside after `grace` seconds end."""
        if self._stopping:
            return
        self._stopping = True
        self._library.calls_stop(self._server)
        if not await self._stops_within(grace):
            self._library.calls_cancel(self._server)
            if not await self._stops_within(CANCELLED_SECONDS):
                log.error("calls were never ended")  # the core waits for them, and we do not
                return
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        asyncio.get_running_loop().remove_reader(self._wake)
        if self._library.calls_close(self._server):
            log.error("calls were never ended")

    async def _stops_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        return self._stopped.is_set()

    def _take(self) -> None:
        """All that has happened since the last time."""
        count = self._library.calls_take(self._server, byref(self._bytes))
        for address, deadline, kind, method, message in events(ctypes.string_at(self._bytes, count)):
            if kind == Kind.ARRIVED:
                self._arrived(address, deadline, method, message)
            elif kind == Kind.STOPPED:
                self._stopped.set()
            elif call := self._calls.get(address):
                if kind == Kind.GONE:
                    call.leave()
                    self._tasks[call].cancel()
                else:
                    call.happened(message)

    def _arrived(self, address: int, deadline: float, method: int, message: bytes | None) -> None:
        handler = self._handlers[method] if method >= 0 else None
        serialise = (handler and handler.response_serializer) or bytes
        call = Call(self._library, self._calls, address, deadline, serialise)
        if handler is None:
            call.end(grpc.StatusCode.UNIMPLEMENTED, "no such method")
            return
        if message is None and not handler.stream_stream:
            call.end(grpc.StatusCode.INVALID_ARGUMENT, "no message")
            return
        task = asyncio.get_running_loop().create_task(_serve(call, handler, message))
        self._tasks[call] = task
        task.add_done_callback(lambda _: self._tasks.pop(call))


async def _serve(call: Call, handler: Handler, message: bytes | None) -> None:
    """One call, from its first message to its status."""
    try:
        await _handle(call, handler, message)
    except grpc.aio.AbortError:
        pass
    except asyncio.CancelledError:
        call.reset()
        raise
    except DecodeError:
        call.end(grpc.StatusCode.INVALID_ARGUMENT, "not a message of this method")
    except Exception:
        log.exception("a handler failed")
        call.end(grpc.StatusCode.INTERNAL, "internal error")
    finally:
        call.end(grpc.StatusCode.CANCELLED)  # unless it has ended


async def _handle(call: Call, handler: Handler, message: bytes | None) -> None:
    """Runs a handler of any kind, but for streams that are answered once: we have none."""
    parse = handler.request_deserializer or bytes
    if handler.stream_stream:
        responses = handler.stream_stream(_messages(call, parse, message), call)
    else:
        assert message is not None
        if handler.unary_unary:
            call.answer(await handler.unary_unary(parse(message), call))
            return
        responses = handler.unary_stream(parse(message), call)
    if hasattr(responses, "__aiter__"):
        async for response in responses:
            await call.write(response)
    else:
        await responses
    call.end(grpc.StatusCode.OK)


async def _messages(call: Call, parse: Any, message: bytes | None) -> AsyncIterator[Any]:
    """What the caller sends, message by message, from this one on; None: he sends none."""
    while message is not None:
        yield parse(message)
        message = await call.read()
