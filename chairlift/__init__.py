"""Client of a Chairlift server: text in, text out, over gRPC. Needs nothing of the server's own code."""

from chairlift.async_client import AsyncClient
from chairlift.client import Client
from chairlift.decoding import Decoding
from chairlift.description import (
    Architecture,
    Calibration,
    Cascade,
    DataSource,
    Limits,
    Model,
    ModelCard,
    Precision,
    Score,
    Speed,
    Timing,
)
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
    AnswerSource,
    FinishReason,
    Generation,
    Hypothesis,
    InputError,
    ModelReference,
    TargetScore,
    TokenChunk,
)

__all__ = [
    "Alternatives",
    "AnswerSource",
    "Architecture",
    "AsyncClient",
    "Calibration",
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
    "Precision",
    "Score",
    "ServerError",
    "Speed",
    "TargetScore",
    "Timing",
    "TokenChunk",
    "Unavailable",
]
