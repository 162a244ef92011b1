"""What a decoder step says about the next token. Knows nothing of where it comes from."""

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
    alignments: npt.NDArray[np.float32] | None = None  # [k, S], where they are asked for

    def part(self, first: int, last: int) -> "Distributions":
        """Those from `first` up to `last`."""
        rows = slice(first, last)
        return Distributions(self.log_probs[rows], self.top_tokens[rows], self.top_scores[rows])

    def alignment(self, row: int) -> list[float] | None:
        """How a row's step weighed each token of the source."""
        return None if self.alignments is None else self.alignments[row].tolist()

    def top(self, row: int, count: int) -> list[tuple[int, float]]:
        """The best `count` tokens of a row, at most K, with their log-probabilities."""
        return list(zip(self.top_tokens[row][:count], self.top_scores[row][:count], strict=True))
