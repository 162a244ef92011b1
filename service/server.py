"""The gRPC server: its limits, its methods wrapped in status and metrics, health, and the way it stops.

Every call passes `_guarded`: it gets exactly one status, and what our own code throws never reaches a caller.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from chairlift.v1 import seq2seq_pb2 as pb
from service.errors import Draining, Internal, InvalidRequest, ServiceError, StartError, Violation
from service.front import front
from service.metrics import MethodMetrics, Metrics
from service.pollers import slow_down_pollers
from service.servicer import Servicer
from service.settings import Settings
from service.status import Context, abort, code_of

log = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["Seq2SeqService"].full_name
MAX_MESSAGE_BYTES = 1 << 20
CUT_OFF_SECONDS = 1.0  # after every other limit, for a call that cannot end: a reader who reads nothing
PARKING_SECONDS = 0.2
OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second server on the port is an error
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Too much is refused by our own queue, which says when to retry; the library would reset or cancel calls.
    ("grpc.max_concurrent_streams", 16384),
    ("grpc.server.max_pending_requests", 16384),
    ("grpc.server.max_pending_requests_hard_limit", 16384),
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.absolute_max_metadata_size", 16 << 10),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # identity alone: nothing to blow up
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
)

Reply = Callable[[Any, float | None], Awaitable[Message]]
Replies = Callable[[Any, float | None], AsyncGenerator[Message, None]]
Handler = Callable[[Any, Context], Awaitable[Any]]


class _Malformed:
    """Stands for a message that could not be parsed."""


class _NotReadError(Exception):
    """The time of a stream is long over, and its caller has not read what it was sent."""


class Server:
    """One gRPC port: `start`, `say_not_serving`, `refuse`, `stop`. `empty` is set while no call is inside."""

    def __init__(self, servicer: Servicer, metrics: Metrics, settings: Settings) -> None:
        self._metrics = metrics
        self._address = settings.listen
        self._longest = settings.max_request_seconds + CUT_OFF_SECONDS
        self._inside = 0
        self._refusing = self._parking = False
        self._leaving = asyncio.Event()
        self.empty = asyncio.Event()
        self.empty.set()
        self.front, self._server = front(settings.front, OPTIONS)
        methods = self._methods(servicer)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        self._server.add_registered_method_handlers(SERVICE, methods)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
                reflection.aio.ReflectionServicer(names), self._server
            )

    async def start(self) -> str:
        """Binds, serves, and says SERVING. Returns the address with its real port. Raises StartError."""
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise StartError(f"--listen {self._address}: cannot be bound") from error
        await self._server.start()
        if self.front == "aio":  # the other's thread does it itself
            slow_down_pollers()
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return f"{self._address.rpartition(':')[0]}:{port}"

    async def say_not_serving(self) -> None:
        """Health turns NOT_SERVING for good; calls are still taken."""
        await self._health.enter_graceful_shutdown()
        self._metrics.draining.set(1)

    def refuse(self) -> None:
        """From now on, new calls get UNAVAILABLE. `empty` is set once those let in before have ended."""
        self._refusing = True

    async def stop(self) -> None:
        """Tells clients to go elsewhere, and closes every connection; calls still inside have a moment left.

        Calls that come at the very end are parked, and answered once the connection is known to be closing:
        gRPC would answer one that is still in its queue then with CANCELLED.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(CUT_OFF_SECONDS):
                await self.empty.wait()
        self._parking = True
        await asyncio.sleep(PARKING_SECONDS)
        closing = asyncio.create_task(self._server.stop(grace=CUT_OFF_SECONDS))
        await asyncio.sleep(0)  # lets it start: the refusals leave after the GOAWAY
        self._leaving.set()
        await closing

    def _methods(self, servicer: Servicer) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
        unary, stream = self._unary, self._stream
        return {
            "Generate": unary("Generate", pb.GenerateRequest, servicer.generate),
            "GenerateStream": stream("GenerateStream", pb.GenerateStreamRequest, servicer.generate_stream),
            "Score": unary("Score", pb.ScoreRequest, servicer.score),
            "ListModels": unary("ListModels", pb.ListModelsRequest, servicer.list_models),
            "GetModel": unary("GetModel", pb.GetModelRequest, servicer.get_model),
        }

    def _unary(self, name: str, request: type[Message], reply: Reply) -> "grpc.RpcMethodHandler[Any, Any]":
        figures = MethodMetrics(self._metrics, "unary", SERVICE, name)

        async def answer(message: Any, context: Context) -> Message:
            response = await reply(message, context.time_remaining())
            figures.sent.inc()
            return response

        return grpc.unary_unary_rpc_method_handler(
            self._guarded(answer, figures), _parser(request), _serialise
        )

    def _stream(
        self, name: str, request: type[Message], replies: Replies
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        figures = MethodMetrics(self._metrics, "server_stream", SERVICE, name)

        async def answer(message: Any, context: Context) -> None:
            try:
                async with (
                    asyncio.timeout(self._longest),
                    aclosing(replies(message, context.time_remaining())) as responses,
                ):
                    async for response in responses:
                        await context.write(response)
                        figures.sent.inc()
            except TimeoutError as error:
                raise _NotReadError from error

        return grpc.unary_stream_rpc_method_handler(
            self._guarded(answer, figures), _parser(request), _serialise
        )

    def _guarded(self, answer: Handler, figures: MethodMetrics) -> Handler:
        """One status for whatever `answer` does, and the grpc_server_* figures."""

        async def guarded(message: Any, context: Context) -> Any:
            began = time.monotonic()
            figures.started.inc()
            figures.received.inc()
            code = "OK"
            admitted = not self._refusing
            if admitted:
                self._enter()
            try:
                if not admitted:
                    await self._turn_away()
                if isinstance(message, _Malformed):
                    raise InvalidRequest(
                        Violation("", "not a message of this method, or text that is not UTF-8")
                    )
                return await answer(message, context)
            except ServiceError as error:
                code = self._refused(error)
                await abort(context, error)
            except _NotReadError as error:
                code = "DeadlineExceeded"
                raise asyncio.CancelledError from error  # no status would arrive
            except asyncio.CancelledError:
                if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                    left = context.time_remaining()
                    code = "DeadlineExceeded" if left is not None and left <= 0 else "Canceled"
                    raise
                code = "Internal"
                await abort(context, _internal())
            except Exception:
                code = "Internal"
                await abort(context, _internal())
            finally:
                if admitted:
                    self._leave()
                figures.handled[code].inc()
                figures.handling.observe(time.monotonic() - began)

        return guarded

    def _refused(self, error: ServiceError) -> str:
        """Counts a refusal and returns its code's name in the grpc_server_* family."""
        if error.reason:
            self._metrics.rejected.labels(error.reason).inc()
        return "".join(part.title() for part in code_of(error).name.split("_"))

    async def _turn_away(self) -> None:
        if self._parking:
            await self._leaving.wait()
        raise Draining("the server is draining")

    def _enter(self) -> None:
        self._inside += 1
        self.empty.clear()

    def _leave(self) -> None:
        self._inside -= 1
        if not self._inside:
            self.empty.set()


def _internal() -> Internal:
    """A fixed text with an id; the exception in hand goes to the log under the same id."""
    error = Internal()
    log.error("a call failed", exc_info=True, extra={"error_id": error.error_id})
    return error


def _parser(request: type[Message]) -> Callable[[bytes], Message | _Malformed]:
    def parse(data: bytes) -> Message | _Malformed:
        try:
            return request.FromString(data)
        except DecodeError:
            return _Malformed()

    return parse


def _serialise(message: Message) -> bytes:
    return message.SerializeToString()
