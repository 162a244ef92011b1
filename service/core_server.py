"""grpc.aio.Server, as far as we use it, over the compiled front of service/native/calls.c.

Knows nothing of our services: it takes the handlers that grpc, its health and its reflection packages make, and
gives them a context. grpc.aio leads each operation of a call through the event loop; here a call comes as one
event, many of them at a time, and its answer is one function call (docs/decisions/0010-a-compiled-front.md).
"""

import asyncio
import ctypes
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from ctypes import byref, c_char_p, c_int32, c_void_p
from typing import Any, NamedTuple

import grpc

from service.calls import Kind, Metadata, events, pairs, text
from service.pollers import POLLER_NICENESS

log = logging.getLogger(__name__)

NOTHING = text(b"")

Handler = Any  # grpc.RpcMethodHandler
Options = Sequence[tuple[str, int]]


class Asked(NamedTuple):
    """grpc.HandlerCallDetails."""

    method: str
    invocation_metadata: Metadata = ()


class Call:
    """One call, and the context of its handler: of grpc.aio.ServicerContext what ours use.

    It ends once: with a message, with a status, or because the caller is gone, which cancels its task.
    """

    __slots__ = ("_address", "_deadline", "_library", "_serialise", "_waiting", "ended", "gone", "task")

    def __init__(self, library: Any, address: int, deadline: float, handler: Handler) -> None:
        self._library = library
        self._address = address
        self._deadline = deadline
        self._serialise = handler.response_serializer or bytes
        self._waiting: asyncio.Future[bytes | None] | None = None
        self.task: asyncio.Task[None] | None = None
        self.gone = self.ended = False

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None where he set none."""
        return None if math.isinf(self._deadline) else max(0.0, self._deadline - time.monotonic())

    async def write(self, response: Any) -> None:
        """Sends one message of a stream, and waits until it may be followed by another."""
        message = self._serialise(response)
        if self._library.calls_send(self._address, message, len(message)):
            await self._event()

    async def read(self) -> bytes | None:
        """The next message of the caller's stream; None after its last."""
        return await self._event() if self._library.calls_read(self._address) else None

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> None:
        """Ends the call with a status. Never returns: raises grpc.aio.AbortError."""
        self.end(code, details, trailing_metadata)
        raise grpc.aio.AbortError

    def answer(self, response: Any) -> None:
        """Ends the call with its only message."""
        message = self._serialise(response)
        if self._ends():
            self._library.calls_finish(self._address, message, len(message), 0, NOTHING, None, 0)

    def end(self, code: grpc.StatusCode, details: str = "", metadata: Metadata = ()) -> None:
        """Ends the call with a status, if it has not ended yet."""
        if self._ends():
            status, count = code.value[0], len(metadata)
            self._library.calls_finish(
                self._address, None, -1, status, text(details), pairs(metadata), count
            )

    def happened(self, message: bytes | None) -> None:
        """What `write` or `read` waited for has come."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(message)

    def _ends(self) -> bool:
        """Whether there is somebody to hear how it ends, which nobody has heard yet."""
        if self.ended:
            return False
        self.ended = True
        if self.gone:
            self._library.calls_leave(self._address)
        return not self.gone

    async def _event(self) -> bytes | None:
        self._waiting = asyncio.get_running_loop().create_future()
        return await self._waiting


class CoreServer:
    """Takes handlers and one address, then calls: `start`, `stop`."""

    def __init__(self, library: Any, options: Options) -> None:
        self._library = library
        self._options = options
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._found: dict[bytes, Handler] = {}
        self._calls: dict[int, Call] = {}
        self._stopping = False
        self._stopped = asyncio.Event()
        self._server = self._wake = 0
        self._bytes = c_void_p()

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """As grpc.aio."""
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """As grpc.aio; generated code also calls `add_generic_rpc_handlers`, which is enough."""

    def add_insecure_port(self, address: str) -> int:
        """Binds, and returns the port. Raises RuntimeError."""
        count = len(self._options)
        names = (c_char_p * count)(*(name.encode() for name, _ in self._options))
        values = (c_int32 * count)(*(value for _, value in self._options))
        port = c_int32()
        self._server = self._library.calls_open(
            address.encode(), names, values, count, POLLER_NICENESS, byref(port)
        )
        if not port.value:
            raise RuntimeError(f"{address} cannot be bound")
        return port.value

    async def start(self) -> None:
        """Takes calls from now on."""
        self._wake = self._library.calls_start(self._server)
        asyncio.get_running_loop().add_reader(self._wake, self._take)

    async def stop(self, grace: float) -> None:
        """Closes the port and tells clients to go elsewhere; after `grace` seconds calls inside are cancelled."""
        if self._stopping:
            return
        self._stopping = True
        self._library.calls_stop(self._server)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._stopped.wait()
        self._library.calls_cancel(self._server)
        await self._stopped.wait()
        tasks = [call.task for call in self._calls.values() if call.task]
        await asyncio.gather(*tasks, return_exceptions=True)
        asyncio.get_running_loop().remove_reader(self._wake)
        self._library.calls_close(self._server)

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
                    call.gone = True
                    call.task.cancel()  # type: ignore[union-attr]  # it has one from its arrival on
                else:
                    call.happened(message)

    def _arrived(self, address: int, deadline: float, method: bytes, message: bytes | None) -> None:
        handler = self._found.get(method) or self._find(method)
        call = Call(self._library, address, deadline, handler or grpc.unary_unary_rpc_method_handler(None))
        if handler is None:
            call.end(grpc.StatusCode.UNIMPLEMENTED, "no such method")
        elif message is None:
            call.end(grpc.StatusCode.INVALID_ARGUMENT, "a call has a message")
        else:
            self._calls[address] = call
            call.task = asyncio.get_running_loop().create_task(self._serve(address, call, handler, message))

    def _find(self, method: bytes) -> Handler | None:
        """The handler of a method, as in `/package.Service/Method`."""
        asked = Asked(method.decode(errors="replace"))
        for handlers in self._handlers:
            if found := handlers.service(asked):
                self._found[method] = found
                return found
        return None

    async def _serve(self, address: int, call: Call, handler: Handler, message: bytes) -> None:
        """One call, from its first message to its status."""
        try:
            await _handle(call, handler, message)
        except grpc.aio.AbortError:
            pass
        except Exception:
            log.exception("a handler failed")
            call.end(grpc.StatusCode.INTERNAL, "internal error")
        finally:
            call.end(grpc.StatusCode.CANCELLED)  # unless it has ended
            del self._calls[address]


async def _handle(call: Call, handler: Handler, message: bytes) -> None:
    """Runs a handler of any kind, but for streams that are answered once: we have none."""
    parse = handler.request_deserializer or bytes
    if handler.unary_unary:
        call.answer(await handler.unary_unary(parse(message), call))
        return
    if handler.unary_stream:
        responses = handler.unary_stream(parse(message), call)
    else:
        responses = handler.stream_stream(_messages(call, parse, message), call)
    if hasattr(responses, "__aiter__"):
        async for response in responses:
            await call.write(response)
    else:
        await responses
    call.end(grpc.StatusCode.OK)


async def _messages(call: Call, parse: Any, first: bytes) -> AsyncIterator[Any]:
    """What the caller sends, message by message."""
    message: bytes | None = first
    while message is not None:
        yield parse(message)
        message = await call.read()
