"""A hypothesis that grows, and when it has ended. Knows nothing of how its tokens are chosen."""

from service.decoding.distributions import END
from service.hypothesis import Hypothesis, Reason, sum_of
from service.options import Options

LONGEST_CYCLE = 8  # tokens

Alternatives = list[tuple[int, float]]
Alignment = list[float]  # [S]


class Branch:
    """Tokens so far and what they cost.

    Growing makes a new one, and leaves the old as it was: beams share what their hypotheses begin with. A
    search that has but one lengthens it, which costs the same however long it is.
    """

    __slots__ = ("alignments", "alternatives", "ranked", "scores", "tokens")

    def __init__(
        self,
        tokens: list[int],  # <E> left out
        scores: list[float],  # natural-log probabilities, of <E> too
        ranked: float,  # their sum, biases included
        alternatives: list[Alternatives],
        alignments: list[Alignment],
    ) -> None:
        self.tokens = tokens
        self.scores = scores
        self.ranked = ranked
        self.alternatives = alternatives
        self.alignments = alignments

    def grown(
        self,
        token: int,
        score: float,
        ranked: float,
        alternatives: Alternatives | None,
        alignment: Alignment | None,
    ) -> "Branch":
        """A copy, lengthened."""
        branch = Branch(self.tokens[:], self.scores[:], self.ranked, self.alternatives[:], self.alignments[:])
        branch.lengthen(token, score, ranked, alternatives, alignment)
        return branch

    def lengthen(
        self,
        token: int,
        score: float,
        ranked: float,
        alternatives: Alternatives | None,
        alignment: Alignment | None,
    ) -> None:
        """Takes one token more itself; `ranked` counts for all of it."""
        if token != END:
            self.tokens.append(token)
        self.scores.append(score)
        self.ranked = ranked
        if alternatives is not None:
            self.alternatives.append(alternatives)
        if alignment is not None:
            self.alignments.append(alignment)

    def reason_to_end(self, token: int, options: Options) -> Reason | None:
        """Why nothing follows the last `token`; None where something does."""
        if token == END:
            return "eos"
        if len(self.tokens) >= options.max_length:
            return "length"
        if self._may_loop(options) and is_loop(self.tokens, options.loop_repeats):
            return "loop"
        return None

    def _may_loop(self, options: Options) -> bool:
        """Whether a loop would end it: what the caller spelled out himself is never cut."""
        return options.loop_repeats > 0 and len(self.tokens) > len(options.prefix) and not options.lexicon

    def ended(self, reason: Reason, options: Options) -> Hypothesis:
        """The hypothesis that this branch has become."""
        return Hypothesis(
            self.tokens,
            self.scores,
            reason,
            score=sum_of(self.scores),
            normalised=self.ranked / max(1, len(self.scores)) ** options.length_penalty,
            alternatives=self.alternatives,
            alignments=self.alignments,
        )


EMPTY = Branch([], [], 0.0, [], [])


def is_loop(tokens: list[int], repeats: int) -> bool:
    """Whether the tokens end in `repeats` times the same 1 to LONGEST_CYCLE tokens."""
    for cycle in range(1, min(LONGEST_CYCLE, len(tokens) // repeats) + 1):
        if tokens[-cycle * repeats :] == tokens[-cycle:] * repeats:
            return True
    return False
