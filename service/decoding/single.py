"""Searches with one hypothesis: greedy, sampling, forced targets, and the first half of a cascade.

Knows nothing of rows: it is told one distribution a step.
"""

from collections.abc import Callable

from service.decoding.beam import Beam
from service.decoding.branch import Branch
from service.decoding.constraints import Candidate, Constraints, Ranking
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
        self.sampling = options.sampling
        self._options = options
        self._constraints = constraints
        self._beam = beam
        self._branch = Branch([], [], 0.0, [], [])  # its own, which it lengthens
        # Else the sorted lists are enough or, in a cascade, two candidates are looked at.
        self._is_weighing = not beam and (self.sampling is not None or not constraints.only_closes)

    @property
    def final(self) -> list[int]:
        """As Search.final."""
        return [] if self._beam and not self.hypotheses else self._branch.tokens

    @property
    def final_scores(self) -> list[float]:
        """As Search.final_scores."""
        return self._branch.scores[: len(self.final)]

    @property
    def length(self) -> int:
        """How many tokens there are so far."""
        return len(self._branch.tokens)

    @property
    def offsets(self) -> Ranking | None:
        """What is added to log-probabilities to choose the next token, [V]; None where `choose` must look."""
        return self._constraints.offsets(self._branch.tokens) if self._is_weighing else None

    def advance(self, rows: Distributions) -> tuple[list[int], list[int]]:
        """As Search.advance."""
        return self.take(self.choose(rows, 0), rows, 0)

    def choose(self, rows: Distributions, row: int) -> list[Candidate]:
        """What may come next, given its row of the distributions: the one, in a cascade the best two."""
        tokens = self._branch.tokens
        if not self.sampling:
            return self._constraints.best(tokens, rows, row, 2 if self._beam else 1)
        log_probs = rows.log_probs[row]
        ranking = log_probs + self._constraints.offsets(tokens)
        token = draw(ranking, self.sampling, len(tokens))
        return [] if token is None else [(token, float(ranking[token]), float(log_probs[token]))]

    def take(self, found: list[Candidate], rows: Distributions, row: int) -> tuple[list[int], list[int]]:
        """Goes on with the first of what was found for its row; returns what `advance` does."""
        if not found:
            self.finish("constraint")
            return [], []
        if self._beam and len(found) == 2 and found[0][1] - found[1][1] < self._options.cascade_margin:
            self.again = self._beam(self._branch)
            return [], []
        token, ranked, score = found[0]
        alternatives = rows.top(row, self._options.alternatives) if self._options.alternatives else None
        branch = self._branch
        branch.lengthen(token, score, branch.ranked + ranked, alternatives, rows.alignment(row))
        if reason := branch.reason_to_end(token, self._options):
            self.finish(reason)
            return [], []
        return [0], [token]

    def finish(self, reason: Reason) -> None:
        """As Search.finish."""
        self.hypotheses = [self._branch.ended(reason, self._options)]
