"""Client of a Chairlift server: text in, text out, over gRPC. Needs nothing of the server's own code."""

from chairlift.async_client import AsyncClient
from chairlift.client import Client
from chairlift.decoding import Decoding
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
    Alternatives,
    Architecture,
    Cascade,
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
    TargetScore,
    TokenChunk,
)

__all__ = [
    "Alternatives",
    "Architecture",
    "AsyncClient",
    "Cascade",
    "ChairliftError",
    "Client",
    "DataSource",
    "DeadlineExceeded",
    "Decoding",
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
    "TargetScore",
    "TokenChunk",
    "Unavailable",
]
