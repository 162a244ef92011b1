"""Lets all searches of a step decide. Knows nothing of the rows that they hold, beyond their order.

Many searches choose by a sum of log-probabilities and offsets: those with biases, allowed tokens, a lexicon
or a draw. These add up, rank and draw together, since an array operation costs about the same for one as for
a hundred. All others, and beams, decide one by one. An answer is the same in company as alone.
"""

import logging
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from service.decoding.constraints import Candidate, Ranking
from service.decoding.distributions import Distributions
from service.decoding.sampling import draw_many
from service.decoding.search import Search
from service.decoding.single import Single

log = logging.getLogger(__name__)

Weighing = tuple[int, Single, Ranking]  # its row of the distributions, a search, its offsets

FEW = 4  # fewer cost less one by one
ROOM = 1 << 14  # numbers in an array, lest it leave the caches; where FEW rows are more, they go one by one


def advance(
    searches: Sequence[Search], counts: Sequence[int], said: Distributions
) -> list[tuple[list[int], list[int]] | None]:
    """What `advance` of each search returns, given the next `counts` of the distributions; None: it threw."""
    ends = list(accumulate(counts))
    found = _weighed(searches, ends, said)
    decided: list[tuple[list[int], list[int]] | None] = []
    for search, count, end in zip(searches, counts, ends, strict=True):
        row = end - count
        try:
            if isinstance(search, Single):
                decided.append(search.take(found.get(row) or search.choose(said, row), said, row))
            else:
                decided.append(search.advance(said.part(row, end)))
        except Exception:
            log.error("a search failed", exc_info=True)
            decided.append(None)
    return decided


def _weighed(
    searches: Sequence[Search], ends: Sequence[int], said: Distributions
) -> dict[int, list[Candidate]]:
    """By row, what is found together. Who is missing looks alone: he for whom nothing may come, too."""
    weighing = [
        (end - 1, search, offsets)
        for search, end in zip(searches, ends, strict=True)
        if isinstance(search, Single) and (offsets := search.offsets) is not None
    ]
    found: dict[int, list[Candidate]] = {}
    most = ROOM // said.log_probs.shape[1]
    if len(weighing) >= FEW <= most:
        for first in range(0, len(weighing), most):
            try:
                found |= _weigh(weighing[first : first + most], said)
            except Exception:
                log.error("searches failed together", exc_info=True)
    return found


def _weigh(weighing: list[Weighing], said: Distributions) -> dict[int, list[Candidate]]:
    rows = [row for row, _, _ in weighing]
    log_probs = said.log_probs[rows]  # [k, V], as the rankings
    rankings = log_probs + np.concatenate([offsets for _, _, offsets in weighing]).reshape(log_probs.shape)
    tokens = rankings.argmax(axis=1)  # [k], the lowest id at a tie
    places = np.arange(len(rows))
    best = rankings[places, tokens].tolist()
    drawing = [
        (place, search.sampling, search.length)
        for place, (_, search, _) in enumerate(weighing)
        if search.sampling and best[place] > -np.inf
    ]
    if drawing:
        drawn, samplings, positions = zip(*drawing, strict=True)
        tokens[list(drawn)] = draw_many(rankings[list(drawn)], samplings, positions)
    ranked, scores = rankings[places, tokens].tolist(), log_probs[places, tokens].tolist()
    candidates = zip(rows, tokens.tolist(), ranked, scores, strict=True)
    return {row: [(token, value, score)] for row, token, value, score in candidates if value > -np.inf}
