"""Which tokens may come next, and what they are ranked by. Knows nothing of how a search chooses among them.

Ranking adds biases to the model's log-probabilities and leaves out what may not come. Nothing is renormalised
here, and scores stay the model's own. Holds no state: what may come depends on the tokens so far alone, so
one object serves every sequence with the same options.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from service.decoding.distributions import END, Distributions
from service.options import Options, unpack

Candidate = tuple[int, float, float]  # token, what it is ranked by, its natural-log probability
Trie: TypeAlias = "dict[int, Trie]"  # END leads from the last token of a whole entry to an empty trie
Ranking = npt.NDArray[np.float64]  # [V]


@lru_cache(maxsize=16)
def constraints_of(options: Options, size: int) -> "Constraints":
    """The constraints of some options over `size` tokens, made once for all calls that share them."""
    return Constraints(options, size)


def constraining(options: Options) -> Options:
    """What of some options constrains, and no more: the same for calls that only draw with other seeds."""
    return Options(
        max_length=1,
        min_length=options.min_length,
        prefix=options.prefix,
        allowed=options.allowed,
        banned=options.banned,
        biases=options.biases,
        lexicon=options.lexicon,
        no_repeat_ngram=options.no_repeat_ngram,
    )


class Constraints:
    """What options say about the next token. A prefix wins over everything else."""

    def __init__(self, options: Options, size: int) -> None:
        self._size = size  # V
        self._prefix = options.prefix
        self._min_length = options.min_length
        self._ngram = options.no_repeat_ngram
        self._lexicon = _trie(unpack(options.lexicon))
        self._closed = frozenset(options.banned)
        self._closed_early = self._closed | {END}  # before min_length
        self._offsets = np.zeros(size)  # [V], -inf where a token never comes
        if options.allowed:
            self._offsets[:] = -np.inf
            self._offsets[[END, *options.allowed]] = 0
        for token, bias in options.biases:
            self._offsets[token] += bias
        self._offsets[list(options.banned)] = -np.inf
        self._offsets_early = self._offsets.copy()
        self._offsets_early[END] = -np.inf  # before min_length
        named = (options.prefix, options.allowed, options.biases, options.lexicon, options.banned)
        self.is_free = not any(named) and not options.min_length and not options.no_repeat_ngram
        self.only_closes = not (options.allowed or options.biases or options.lexicon)

    def best(self, tokens: list[int], rows: Distributions, row: int, count: int) -> list[Candidate]:
        """The `count` best candidates that may follow `tokens`, ties by id; fewer where there are fewer."""
        if len(tokens) < len(self._prefix):
            token = self._prefix[len(tokens)]
            score = float(rows.log_probs[row, token])
            return [(token, score, score)]
        if self.only_closes:
            listed, scores = rows.top_tokens[row], rows.top_scores[row]
            closed = self._closed_after(tokens)
            found = []
            for token, score in zip(listed, scores, strict=True):
                if token not in closed:
                    found.append((token, score, score))
                    if len(found) == count:
                        return found
            if len(listed) == self._size:
                return found
        ranking = rows.log_probs[row] + self.offsets(tokens)
        ids = best_ids(ranking, count)
        ranked, scores = ranking[ids].tolist(), rows.log_probs[row, ids].tolist()
        return list(zip(ids.tolist(), ranked, scores, strict=True))

    def offsets(self, tokens: list[int]) -> Ranking:
        """What is added to the log-probabilities to rank what follows `tokens`, [V]; -inf: it may not come.

        Not to be changed: others share it.
        """
        length = len(tokens)
        if length < len(self._prefix):
            return _only([self._prefix[length]], np.zeros(self._size))
        offsets = self._offsets_early if length < self._min_length else self._offsets
        if self._lexicon:
            offsets = _only(self._entries_after(tokens), offsets)
        if self._ngram and (closed := _repeating(tokens, self._ngram)):
            offsets = offsets.copy()
            offsets[closed] = -np.inf
        return offsets

    def _closed_after(self, tokens: list[int]) -> frozenset[int]:
        closed = self._closed_early if len(tokens) < self._min_length else self._closed
        return closed.union(_repeating(tokens, self._ngram)) if self._ngram else closed

    def _entries_after(self, tokens: list[int]) -> list[int]:
        node: Trie | None = self._lexicon
        for token in tokens:
            node = node.get(token) if node else None
        return list(node or ())


def best_ids(ranking: Ranking, count: int) -> npt.NDArray[np.intp]:
    """The ids of the `count` highest entries, ties by id; fewer where the rest is -inf."""
    least = np.partition(ranking, -count)[-count] if count < ranking.size else -np.inf
    ids = np.flatnonzero((ranking >= least) & (ranking > -np.inf))
    chosen: npt.NDArray[np.intp] = ids[np.argsort(-ranking[ids], kind="stable")][:count]
    return chosen


def _trie(entries: Sequence[Sequence[int]]) -> Trie:
    root: Trie = {}
    for entry in entries:
        node = root
        for token in (*entry, END):
            node = node.setdefault(token, {})
    return root


def _only(ids: list[int], offsets: Ranking) -> Ranking:
    kept = np.full_like(offsets, -np.inf)
    kept[ids] = offsets[ids]
    return kept


def _repeating(tokens: list[int], n: int) -> list[int]:
    """The tokens that would complete n tokens that came before in the same order."""
    last = tokens[len(tokens) - n + 1 :]  # n - 1 of them
    return [tokens[i + n - 1] for i in range(len(tokens) - n + 1) if tokens[i : i + n - 1] == last]
