"""Plain greedy sequences that may not end yet. Knows nothing of queues, searches or time.

A least length needs no search: the best token that may come is the best one of all or, where that is <E>,
the second best. So one look at the distributions of those few rows is enough.
"""

from service.decoder import Decoder
from service.sequence import Sequence


class LeastLengths:
    """Who is too short to emit <E>."""

    def __init__(self) -> None:
        self._short: dict[int, tuple[Sequence, int]] = {}  # by id; and the number of steps before its end

    def __len__(self) -> int:
        return len(self._short)

    def add(self, sequence: Sequence, steps: int) -> None:
        """A plain sequence starts after so many steps of its scheduler."""
        if sequence.options.min_length:
            self._short[sequence.id] = sequence, steps + sequence.options.min_length

    def discard(self, sequence: Sequence) -> None:
        """A sequence has ended."""
        self._short.pop(sequence.id, None)

    def put_off_ends(self, engine: Decoder, steps: int, tokens: list[int], scores: list[float]) -> None:
        """Lets those who are too short go on where step number `steps` said <E>: changes what it said."""
        rows = []
        for sequence, least in list(self._short.values()):
            if steps >= least:
                del self._short[sequence.id]
            elif tokens[sequence.rows[0]] == engine.end_id:
                rows.append(sequence.rows[0])
        if rows:
            go_on(engine, rows, tokens, scores)


def go_on(engine: Decoder, rows: list[int], tokens: list[int], scores: list[float]) -> None:
    """Gives rows whose best token is <E> the next best one to read, and writes it over what the step said."""
    said = engine.distributions(rows)
    for row, best, logs in zip(rows, said.top_tokens, said.top_scores, strict=True):
        second = best[0] == engine.end_id  # unless the row is poisoned
        tokens[row], scores[row] = best[second], logs[second]
    engine.place(rows, rows, [tokens[row] for row in rows])
