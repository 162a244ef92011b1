"""Replays a bundle's golden cases on the engine that will serve: what differs from PyTorch is never READY.

Knows nothing of transport. Each case runs alone and all run together, and both must agree bit for bit: the
promise that nobody changes your answer is checked on the very machine that makes it. On a GPU the tokens must
agree: its products are added up in another order for another number of rows.
"""

from collections.abc import Sequence
from typing import Protocol

from bundle.golden import GoldenCase
from bundle.manifest import Profile
from bundle.reader import Bundle
from service.decoder import Decoder
from service.errors import StartError


class GoldenEngine(Decoder, Protocol):
    """What is verified."""

    device: str
    profile: Profile

    def step(self, count: int) -> tuple[list[int], list[float]]:
        """Runs the decoder on rows 0..count-1: the best next token of each, and its log-probability."""

    def clear(self) -> None:
        """Hears that nobody is in any row."""


def verify(bundle: Bundle, engine: GoldenEngine) -> float:
    """Replays every case; returns the largest score difference. Raises StartError for one that differs."""
    tolerance = engine.profile.score_tolerance
    worst = 0.0
    cases = bundle.golden.cases
    for start in range(0, len(cases), engine.rows):
        group = cases[start : start + engine.rows]
        for number, (case, together) in enumerate(zip(group, _decode(engine, group), strict=True), start):
            alone = _decode(engine, [case])[0]
            if alone != together if engine.device == "cpu" else alone[0] != together[0]:
                raise StartError(f"golden case {number}: its answer changes with its neighbours")
            tokens, scores = together
            if tuple(tokens) != case.target_ids:
                raise StartError(f"golden case {number}: the tokens differ from PyTorch's")
            difference = max(abs(a - b) for a, b in zip(scores, case.token_scores, strict=True))
            if not difference <= tolerance:
                raise StartError(
                    f"golden case {number}: a score differs by {difference:.2g}; {tolerance:.2g} is allowed"
                )
            worst = max(worst, difference)
    return worst


def _decode(engine: GoldenEngine, cases: Sequence[GoldenCase]) -> list[tuple[list[int], list[float]]]:
    """Greedy tokens (with <E>) and scores of each case; finished rows go on unread until all are done."""
    engine.clear()  # alone a short source has the narrowest memory, together the longest one's
    engine.encode([case.source_ids for case in cases], range(len(cases)))
    found: list[tuple[list[int], list[float]]] = [([], []) for _ in cases]
    for step in range(max(len(case.target_ids) for case in cases)):
        tokens, scores = engine.step(len(cases))
        for (row_tokens, row_scores), case, token, score in zip(found, cases, tokens, scores, strict=True):
            if step < len(case.target_ids):
                row_tokens.append(token)
                row_scores.append(score)
    return found
