"""Errors as gRPC statuses: the one table, and the details that go with a status.

A status never holds an input, a path or a traceback; its text is at most 512 bytes.
"""

from typing import Any, TypeAlias

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from service.errors import (
    DeadlineExceeded,
    DeviceGone,
    Draining,
    Internal,
    InvalidRequest,
    NotReady,
    Overloaded,
    ServiceError,
    UnknownModel,
)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in its stubs alone

MAX_TEXT = 512
LEAST_RETRY_SECONDS = 0.01

CODES: dict[type[ServiceError], grpc.StatusCode] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownModel: grpc.StatusCode.NOT_FOUND,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Draining: grpc.StatusCode.UNAVAILABLE,
    DeviceGone: grpc.StatusCode.UNAVAILABLE,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    Internal: grpc.StatusCode.INTERNAL,
}


def code_of(error: ServiceError) -> grpc.StatusCode:
    """The status code of an error."""
    return CODES[type(error)]


def text_of(error: ServiceError) -> str:
    """The text of an error, cut to what a status may hold."""
    return str(error).encode()[:MAX_TEXT].decode(errors="ignore")


async def abort(context: Context, error: ServiceError) -> None:
    """Ends a call with the status of an error, its details, and when to retry. Never returns."""
    details, retry = _details(error)
    status = Status(code=code_of(error).value[0], message=text_of(error))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    converted = rpc_status.to_status(status)
    trailers = list(converted.trailing_metadata)
    if retry is not None:
        trailers.append(("grpc-retry-pushback-ms", str(max(1, round(1000 * retry)))))
    await context.abort(converted.code, converted.details, tuple(trailers))


def _details(error: ServiceError) -> tuple[list[BadRequest | ErrorInfo | RetryInfo], float | None]:
    """google.rpc details of an error, and the seconds after which a retry makes sense."""
    if isinstance(error, InvalidRequest):
        violations = [
            BadRequest.FieldViolation(field=violation.field, description=violation.reason)
            for violation in error.violations
        ]
        return [BadRequest(field_violations=violations)], None
    if isinstance(error, Overloaded | Draining):
        retry = max(LEAST_RETRY_SECONDS, error.retry_seconds)
        return [ErrorInfo(reason=error.reason, domain="chairlift"), _retry(retry)], retry
    return [], None


def _retry(seconds: float) -> RetryInfo:
    delay = Duration()
    delay.FromMilliseconds(round(1000 * seconds))
    return RetryInfo(retry_delay=delay)
