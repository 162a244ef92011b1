"""Searches with one hypothesis: greedy, sampling, forced targets, and the first half of a cascade.

Knows nothing of rows: it is told one distribution a step.
"""

from collections.abc import Callable

from service.decoding.beam import Beam
from service.decoding.branch import EMPTY, Branch
from service.decoding.constraints import Candidate, Constraints
from service.decoding.distributions import Distributions
from service.decoding.sampling import draw
from service.hypothesis import Hypothesis, Reason
from service.options import Options


class Single:
    """Goes on with the best token that may come, or with a drawn one.

    With a `beam` it is the first half of a cascade: as soon as the two best tokens that may come lie closer
    than `cascade_margin`, it gives up and leaves a beam in `again`, made from what it has found so far. Until
    it has ended nothing is final.
    """

    width = 1

    def __init__(
        self, options: Options, constraints: Constraints, beam: Callable[[Branch], Beam] | None = None
    ) -> None:
        self.hypotheses: list[Hypothesis] = []
        self.again: Beam | None = None
        self._options = options
        self._constraints = constraints
        self._beam = beam
        self._branch = EMPTY

    @property
    def final(self) -> list[int]:
        """As Search.final."""
        return [] if self._beam and not self.hypotheses else self._branch.tokens

    @property
    def final_scores(self) -> list[float]:
        """As Search.final_scores."""
        return self._branch.scores[: len(self.final)]

    def advance(self, rows: Distributions) -> tuple[list[int], list[int]]:
        """As Search.advance."""
        candidate = self._draw(rows) if self._options.sampling else self._best(rows)
        if self.again:
            return [], []
        if candidate is None:
            self.finish("constraint")
            return [], []
        token, ranked, score = candidate
        alternatives = rows.top(0, self._options.alternatives) if self._options.alternatives else None
        total = self._branch.ranked + ranked
        self._branch = self._branch.grown(token, score, total, alternatives, rows.alignment(0))
        if reason := self._branch.reason_to_end(token, self._options):
            self.finish(reason)
            return [], []
        return [0], [token]

    def finish(self, reason: Reason) -> None:
        """As Search.finish."""
        self.hypotheses = [self._branch.ended(reason, self._options)]

    def _draw(self, rows: Distributions) -> Candidate | None:
        assert self._options.sampling
        tokens, log_probs = self._branch.tokens, rows.log_probs[0]
        ranking = self._constraints.ranking(tokens, log_probs)
        token = draw(ranking, self._options.sampling, len(tokens))
        return None if token is None else (token, float(ranking[token]), float(log_probs[token]))

    def _best(self, rows: Distributions) -> Candidate | None:
        found = self._constraints.best(self._branch.tokens, rows, 0, 2 if self._beam else 1)
        if self._beam and len(found) == 2 and found[0][1] - found[1][1] < self._options.cascade_margin:
            self.again = self._beam(self._branch)
        return found[0] if found else None
