"""Client of a Chairlift server: text in, text out, over gRPC. Needs nothing of the server's own code."""

from chairlift.async_client import AsyncClient
from chairlift.client import Client
from chairlift.errors import (
    ChairliftError,
    DeadlineExceeded,
    FieldViolation,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ServerError,
    Unavailable,
)
from chairlift.results import (
    Architecture,
    DataSource,
    FinishReason,
    Generation,
    Hypothesis,
    InputError,
    Limits,
    Model,
    ModelCard,
    ModelReference,
    Score,
    TokenChunk,
)

__all__ = [
    "Architecture",
    "AsyncClient",
    "ChairliftError",
    "Client",
    "DataSource",
    "DeadlineExceeded",
    "FieldViolation",
    "FinishReason",
    "Generation",
    "Hypothesis",
    "InputError",
    "InvalidRequest",
    "Limits",
    "Model",
    "ModelCard",
    "ModelNotFound",
    "ModelReference",
    "Overloaded",
    "Score",
    "ServerError",
    "TokenChunk",
    "Unavailable",
]
