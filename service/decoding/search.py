"""Every way of decoding, as the step loop sees it. Knows nothing of rows, text, time or transport.

A search is told the distributions that followed its hypotheses and says how they go on. It depends on nothing
else, so an answer is the same whatever shares the step.
"""

from functools import partial
from typing import Protocol

from service.decoding.beam import Beam
from service.decoding.constraints import constraining, constraints_of
from service.decoding.distributions import Distributions
from service.decoding.single import Single
from service.hypothesis import Hypothesis, Reason
from service.options import Options


class Search(Protocol):
    """One input being decoded."""

    @property
    def width(self) -> int:
        """Most rows that it may ever hold."""

    @property
    def hypotheses(self) -> list[Hypothesis]:
        """Best first: none before the search has ended, then 1 to n_best."""

    @property
    def again(self) -> "Search | None":
        """What is to decode the source from its start, now that this search has ended without an answer."""

    @property
    def final(self) -> list[int]:
        """Tokens that will never be taken back, <E> left out: the best hypothesis begins with them."""

    @property
    def final_scores(self) -> list[float]:
        """Natural-log probabilities of `final`."""

    def advance(self, rows: Distributions) -> tuple[list[int], list[int]]:
        """Decides on the next tokens, given one distribution a live hypothesis (one, after <S>, at first).

        Returns (parents, tokens): hypothesis j goes on from the state of row parents[j] and reads tokens[j]
        next. Both empty: the search has ended. Scores must be numbers; not-a-number is the caller's to find.
        """

    def finish(self, reason: Reason) -> None:
        """Ends the search from outside: the best so far becomes the answer."""


def search_for(options: Options, size: int) -> Search | None:
    """The search for options over the `size` tokens that can be emitted (V).

    None: plain greedy decoding, which may have a least length.
    """
    min_length = options.min_length if size > 1 else 0  # where there is a token besides <E>
    plain = Options(options.max_length, min_length, partial_on_deadline=options.partial_on_deadline)
    if options == plain:
        return None
    constraints = constraints_of(constraining(options), size)
    if options.beam_size == 1:
        return Single(options, constraints)
    if options.cascade_margin > 0:
        return Single(options, constraints, partial(Beam, options, constraints))
    return Beam(options, constraints)
