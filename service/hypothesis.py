"""One candidate answer, as decoding hands it over; how sequences end. Knows nothing of text or transport."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from msgspec import Struct

Reason = Literal["eos", "length", "loop", "constraint", "deadline"]


class Outcome(StrEnum):
    """How a sequence ended. It does so exactly once."""

    EOS = "eos"
    LENGTH = "length"
    LOOP = "loop"
    CONSTRAINT = "constraint"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    DRAINED = "drained"
    LOST = "lost"
    FAILED = "failed"


REASONS: dict[Outcome, Reason] = {
    Outcome.EOS: "eos",
    Outcome.LENGTH: "length",
    Outcome.LOOP: "loop",
    Outcome.CONSTRAINT: "constraint",
    Outcome.DEADLINE: "deadline",
}


class Hypothesis(Struct, array_like=True):
    """Tokens, how probable the model finds them, and why there are no more.

    Scores are the model's own natural-log probabilities, whatever biases and constraints decided. Reason
    `constraint`: no token was left that might come, and there is no whole answer that would do.
    """

    tokens: list[int]  # <E> left out
    scores: list[float]  # of each token, then of <E> if it came
    reason: Reason
    score: float  # sum of the scores
    normalised: float  # what hypotheses are ranked by: score and biases, by length**length_penalty
    alternatives: list[list[tuple[int, float]]] = []  # the best (id, log-probability) of each scored token
    alignments: list[list[float]] = []  # for each scored token: the weight of each token of the source


def sum_of(scores: Iterable[float]) -> float:
    """The sum from left to right, as a search adds up; `sum` rounds otherwise from Python 3.12 on."""
    total = 0.0
    for score in scores:
        total += score
    return total
