"""Inputs with the exact tokens and scores that PyTorch gave. Knows nothing about how they are replayed."""

import math
from typing import Annotated

import msgspec

from bundle import strict_json
from bundle.values import TokenId

FILE = "golden.json"

TokenIds = Annotated[tuple[TokenId, ...], msgspec.Meta(min_length=1)]
LogProbability = Annotated[
    float, msgspec.Meta(le=1e-3)
]  # natural log; rounding may lift it above 0 by a hair


class GoldenCase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input, greedily decoded: target_ids hold no `<S>`, and end in `<E>` if it was emitted."""

    text: str
    source_ids: TokenIds
    target_ids: TokenIds
    token_scores: tuple[LogProbability, ...]  # one a target id
    score: float  # their sum

    def __post_init__(self) -> None:
        if len(self.token_scores) != len(self.target_ids):
            raise ValueError(
                f"{len(self.token_scores)} token_scores; {len(self.target_ids)} are allowed, one a target id"
            )
        total = math.fsum(self.token_scores)
        if not math.isclose(self.score, total, rel_tol=1e-5, abs_tol=1e-4):
            raise ValueError(f"score is {self.score}; the sum of the token_scores, {total}, is allowed")


class Golden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All the cases of a bundle."""

    cases: Annotated[tuple[GoldenCase, ...], msgspec.Meta(min_length=1, max_length=10_000)]


def encode_golden(golden: Golden) -> bytes:
    """Return golden.json."""
    return strict_json.encode(golden)


def decode_golden(data: bytes) -> Golden:
    """Read golden.json. Raises BundleError."""
    return strict_json.decode(FILE, data, Golden)
