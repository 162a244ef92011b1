"""Whole batches of words, decoded by the service's engine: what stands behind the servers of others.

A batch is encoded, stepped until all of it has ended, and only then answered. Knows nothing of a server.
"""

from collections.abc import Sequence
from pathlib import Path

from bundle.reader import read_bundle
from service.opening import open_engine
from service.settings import Settings

MOST_WORDS = Settings().max_rows  # in a batch
WAIT_MICROSECONDS = 1000  # that a server may collect words for one


class BatchDecoder:
    """A bundle and an engine with a row for each word, in the bundle's own profile."""

    def __init__(self, folder: Path) -> None:
        self._bundle = read_bundle(folder)
        self._engine, _ = open_engine(self._bundle, "", MOST_WORDS, "cpu", 1)
        self._engine.warm_up()
        self._most = self._bundle.manifest.limits.max_target_length

    def answer(self, words: Sequence[str]) -> list[str]:
        """The target text of each word; of MOST_WORDS at most."""
        answers = self._decode([self._bundle.source.encode(word) for word in words])
        return [self._bundle.target.decode(answer) for answer in answers]

    def _decode(self, sources: Sequence[Sequence[int]]) -> list[list[int]]:
        self._engine.encode(sources, range(len(sources)))
        answers: list[list[int]] = [[] for _ in sources]
        open_rows = set(range(len(sources)))
        while open_rows:
            tokens, _ = self._engine.step(len(sources))
            for row in list(open_rows):
                if tokens[row] == self._engine.end_id or len(answers[row]) == self._most:
                    open_rows.discard(row)
                else:
                    answers[row].append(tokens[row])
        return answers
