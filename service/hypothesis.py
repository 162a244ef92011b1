"""One candidate answer, as decoding hands it over. Knows nothing of text or transport."""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

Reason = Literal["eos", "length", "loop", "constraint", "deadline"]


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
