"""Everything that a call may raise: one small hierarchy, made from gRPC's errors in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

MAX_TIMEOUT_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request, such as inputs[3], and what is wrong with it."""

    field: str
    description: str


class ChairliftError(Exception):
    """A call that failed. Raised itself for a status that has no class of its own below."""

    def __init__(
        self,
        message: str,
        code: grpc.StatusCode,
        violations: tuple[FieldViolation, ...] = (),
        retry_delay_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.violations = violations
        self.retry_delay_seconds = retry_delay_seconds
        """How long the server asks to wait before trying again; None where it does not say."""

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


class InvalidRequest(ChairliftError):
    """The caller's fault: `violations` names the fields. Sending it again cannot help."""


class ModelNotFound(ChairliftError):
    """The caller's fault: the server has no such model or version."""


class Overloaded(ChairliftError):
    """Nobody's fault: the server is over capacity, and stayed so over every attempt."""


class DeadlineExceeded(ChairliftError):
    """The call took longer than `timeout_seconds`."""


class Unavailable(ChairliftError):
    """No server could be reached, or it is starting or draining or lacks the model, over every attempt."""


class ServerError(ChairliftError):
    """The server's fault: an internal error, or an answer that breaks the contract."""


CLASSES: dict[grpc.StatusCode, type[ChairliftError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.INTERNAL: ServerError,
    grpc.StatusCode.UNKNOWN: ServerError,
    grpc.StatusCode.DATA_LOSS: ServerError,
}


@contextmanager
def calling(timeout_seconds: float) -> Iterator[None]:
    """Around one call, and its `await` too: turns gRPC's errors into ours.

    Raises ValueError for a time that is none, and on a client that is closed.
    """
    if not 0 < timeout_seconds <= MAX_TIMEOUT_SECONDS:  # nor is what is not a number
        raise ValueError(
            f"timeout_seconds: {timeout_seconds}; more than 0 and at most {MAX_TIMEOUT_SECONDS} are allowed"
        )
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
    except grpc.aio.UsageError as error:
        raise ValueError("the client is closed") from error


def from_rpc_error(error: grpc.RpcError) -> ChairliftError:
    """The exception for a gRPC error, with the details that came in its trailers."""
    status = _status(error)
    violations = tuple(
        FieldViolation(violation.field, violation.description)
        for detail in _details(status, BadRequest)
        for violation in detail.field_violations
    )
    delays = [detail.retry_delay.ToTimedelta().total_seconds() for detail in _details(status, RetryInfo)]
    code = error.code()
    return CLASSES.get(code, ChairliftError)(
        error.details() or "no text was given", code, violations, delays[0] if delays else None
    )


def broken_contract(what: str) -> ServerError:
    """The error for an answer that the wire contract rules out."""
    return ServerError(f"the server's answer breaks the contract: {what}", grpc.StatusCode.INTERNAL)


def _status(error: Any) -> Status:
    """The google.rpc.Status in the trailers; empty where there is none, or none that can be read."""
    try:
        return rpc_status.from_call(error) or Status()
    except ValueError:  # it contradicts the status of the call, which counts
        return Status()


DetailT = TypeVar("DetailT", BadRequest, RetryInfo)


def _details(status: Status, kind: type[DetailT]) -> Iterator[DetailT]:
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            yield detail
