"""Beam search. Knows nothing of rows beyond the order of its live hypotheses.

There are beam_size hypotheses, finished or live. In a step, all candidates of the live ones are ranked by
what has added up (ties: the parent's rank, then the token's id), and the best take the live places. Those
that end are finished, and leave a place less. Finished ones rank by what has added up over
length**length_penalty, <E> counted; ties: the one that finished first.
"""

from service.decoding.branch import EMPTY, Branch
from service.decoding.constraints import Constraints
from service.decoding.distributions import Distributions
from service.hypothesis import Hypothesis, Reason
from service.options import Options

Candidate = tuple[float, int, int, float]  # what has added up, negated; parent; token; its log-probability


class Beam:
    """Ends when all are finished, at max_length, or when no live one can get among the n_best any more.

    A live hypothesis that nothing may follow is given up. It becomes an answer, with reason `constraint`,
    only where there is no other. `before`: what a cascade had found greedily; it is the best so far until
    the beam has tokens of its own.
    """

    def __init__(self, options: Options, constraints: Constraints, before: Branch = EMPTY) -> None:
        self.width = options.beam_size
        self.hypotheses: list[Hypothesis] = []
        self.again: None = None
        self._options = options
        self._constraints = constraints
        self._before = before
        self._live = [EMPTY]  # best first; all of the same length
        self._finished: list[Hypothesis] = []  # in the order in which they ended
        # What adds up only falls, unless biases lift it: its value now, over the longest length, is a bound.
        self._is_bounded = all(bias <= 0 for _, bias in options.biases)
        self._longest = options.max_length**options.length_penalty

    @property
    def final(self) -> list[int]:
        """As Search.final: what all that may still become the best begin with."""
        return self._common()[0]

    @property
    def final_scores(self) -> list[float]:
        """As Search.final_scores."""
        return self._common()[1]

    def advance(self, rows: Distributions) -> tuple[list[int], list[int]]:
        """As Search.advance."""
        places = self.width - len(self._finished)
        candidates = sorted(self._candidates(rows, places))[:places]
        parents, tokens = self._grow(candidates, rows)
        if not candidates and not self._finished:
            self._finish_live("constraint")
        elif tokens and len(self._live[0].tokens) >= self._options.max_length:
            self._finish_live("length")
        elif tokens and not self._is_decided():
            return parents, tokens
        self.hypotheses = self._ranking()[: self._options.n_best]
        return [], []

    def finish(self, reason: Reason) -> None:
        """As Search.finish. Whole hypotheses come before those that are cut off."""
        whole, self._finished = self._ranking(), []
        if self._live == [EMPTY]:
            self._live = [self._before]
        self._finish_live(reason)
        self.hypotheses = [*whole, *self._ranking()][: self._options.n_best]

    def _candidates(self, rows: Distributions, places: int) -> list[Candidate]:
        """All that may be among the best `places`."""
        if self._constraints.is_free and places <= len(rows.top_tokens[0]):
            return self._listed_candidates(rows, places)
        best = self._constraints.best
        return [
            (-(branch.ranked + ranked), parent, token, score)
            for parent, branch in enumerate(self._live)
            for token, ranked, score in best(branch.tokens, rows, parent, places)
        ]

    def _listed_candidates(self, rows: Distributions, places: int) -> list[Candidate]:
        """The same where every token may come: the sorted lists are enough, and nothing below what fills the
        places from the first parent alone can get one."""
        found = []
        least = self._live[0].ranked + rows.top_scores[0][places - 1]
        for parent, branch in enumerate(self._live):
            so_far = branch.ranked
            for token, score in zip(rows.top_tokens[parent], rows.top_scores[parent], strict=True):
                total = so_far + score
                if total < least:
                    break
                found.append((-total, parent, token, score))
        return found

    def _grow(self, candidates: list[Candidate], rows: Distributions) -> tuple[list[int], list[int]]:
        """Takes the candidates: those that end are finished, the others take the live places."""
        wanted = self._options.alternatives
        parents, tokens, live = [], [], []
        for negated, parent, token, score in candidates:
            alternatives = rows.top(parent, wanted) if wanted else None
            branch = self._live[parent].grown(token, score, -negated, alternatives, rows.alignment(parent))
            reason = branch.reason_to_end(token, self._options)
            if reason is None or reason == "length":  # whose turn comes after those that end by themselves
                parents.append(parent)
                tokens.append(token)
                live.append(branch)
            else:
                self._finished.append(branch.ended(reason, self._options))
        self._live = live if candidates else self._live
        return parents, tokens

    def _finish_live(self, reason: Reason) -> None:
        self._finished += [branch.ended(reason, self._options) for branch in self._live]

    def _ranking(self) -> list[Hypothesis]:
        return sorted(self._finished, key=lambda hypothesis: -hypothesis.normalised)

    def _is_decided(self) -> bool:
        """Whether no live hypothesis can still beat the worst of the n_best best finished ones."""
        n_best = self._options.n_best
        if len(self._finished) < n_best:
            return False
        return not self._may_beat(self._live[0], self._ranking()[n_best - 1])

    def _may_beat(self, branch: Branch, finished: Hypothesis) -> bool:
        return not self._is_bounded or branch.ranked / self._longest > finished.normalised

    def _common(self) -> tuple[list[int], list[float]]:
        """Tokens and scores that the hypotheses that may still become the best begin with."""
        best = self.hypotheses[:1] or self._ranking()[:1]
        contenders: list[Branch | Hypothesis] = [*best]
        if not self.hypotheses:
            contenders += [live for live in self._live if not best or self._may_beat(live, best[0])]
        first, last = (pick(hypothesis.tokens for hypothesis in contenders) for pick in (min, max))
        length = 0
        while length < min(len(first), len(last)) and first[length] == last[length]:
            length += 1
        return first[:length], contenders[0].scores[:length]
