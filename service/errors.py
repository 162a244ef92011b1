"""What can go wrong with a request or a server. Knows nothing of gRPC: status.py maps each class to a status.

Texts are shown to callers: they hold names, counts and limits, never inputs, paths or internals.
"""

import uuid
from dataclasses import dataclass


@dataclass
class Violation:
    """One field of a request that is wrong, and why."""

    field: str
    reason: str


class ServiceError(Exception):
    """A request that ends without an answer. `reason`: as what a refusal is counted; empty: as none."""

    reason = ""


class InvalidRequest(ServiceError):
    """The caller's fault: some fields are wrong. Never worth a retry."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__(
            "; ".join(f"{one.field}: {one.reason}" if one.field else one.reason for one in violations)
        )
        self.violations = violations


class UnknownModel(ServiceError):
    """The caller's fault: no such model or version."""


class Overloaded(ServiceError):
    """Nobody's fault: over capacity now. `retry_seconds` is when there should be room."""

    def __init__(self, reason: str, text: str, retry_seconds: float) -> None:
        super().__init__(text)
        self.reason = reason
        self.retry_seconds = retry_seconds


class DeadlineExceeded(ServiceError):
    """The caller's deadline, or the server's longest time for a request, passed."""


class Draining(ServiceError):
    """The server is about to stop. Another one will answer, after `retry_seconds`."""

    reason = "DRAINING"
    retry_seconds = 0.5


class DeviceGone(Draining):
    """Nobody's fault: the device that decoded was lost. Another server, or soon this one, will answer."""

    reason = "DEVICE_LOST"


class NotReady(ServiceError):
    """Nobody's fault: a model version that this server has and could not load. Another one may serve it."""


class Internal(ServiceError):
    """Our fault. Whoever raises it logs the details under its `error_id`; the caller sees the id alone."""

    def __init__(self) -> None:
        self.error_id = uuid.uuid4().hex[:12]
        super().__init__(f"internal error {self.error_id}")


class StartError(Exception):
    """The server cannot start: a setting, a bundle or the machine is wrong. The text says which."""
