"""What a decoder step says about the next token. Knows nothing of where it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

END = 0  # id of <E> in every bundle


@dataclass(slots=True)
class Distributions:
    """What followed live hypotheses, in their order. Valid during one call only.

    Letters: k live hypotheses, V tokens, K = min(V, 8), S source length. Top tokens are sorted, ties by id.
    """

    log_probs: npt.NDArray[np.float32]  # [k, V]
    top_tokens: list[list[int]]  # [k][K]
    top_scores: list[list[float]]  # [k][K], natural-log probabilities
    alignments: npt.NDArray[np.float32] | None = None  # [k, S or more], where anybody asks for them
    lengths: Sequence[int] = ()  # [k], with alignments: S, or 0 where nobody asks

    def part(self, first: int, last: int) -> "Distributions":
        """Those from `first` up to `last`."""
        rows = slice(first, last)
        alignments = None if self.alignments is None else self.alignments[rows]
        return Distributions(
            self.log_probs[rows], self.top_tokens[rows], self.top_scores[rows], alignments, self.lengths[rows]
        )

    def alignment(self, row: int) -> list[float] | None:
        """How a row's step weighed each token of the source; None where nobody asks."""
        if self.alignments is None or not self.lengths[row]:
            return None
        weights: list[float] = self.alignments[row, : self.lengths[row]].tolist()
        return weights

    def top(self, row: int, count: int) -> list[tuple[int, float]]:
        """The best `count` tokens of a row, at most K, with their log-probabilities."""
        return list(zip(self.top_tokens[row][:count], self.top_scores[row][:count], strict=True))
