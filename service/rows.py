"""Who has which row, and what each row got. Knows nothing of queues, ends, the engine, news or time.

Rows 0..n-1 are stepped, and no step has holes: a row that is left is for the next who comes, or else the last
row closes it. What greedy rows got is logged a step at a time, not a row at a time; a plain sequence reads
its share when it moves or leaves.
"""

from service.sequence import Sequence

TRIM_STEPS = 1024


class Rows:
    """`size` rows at the most. `running`: who has each; None is a hole."""

    def __init__(self, size: int) -> None:
        self.running: list[Sequence | None] = []
        self.steps = 0  # so far
        self.reserved = 0  # rows that those who run may come to hold
        self._size = size
        self._holes: list[int] = []
        self._tokens: list[list[int]] = []  # the log: what each row got, step by step
        self._scores: list[list[float]] = []
        self._logged_from = 0

    @property
    def free(self) -> int:
        """Rows that are kept for nobody."""
        return self._size - self.reserved

    def take(self, sequence: Sequence) -> None:
        """Gives a newcomer its first row, and keeps as many as its width for it."""
        self.reserved += sequence.width
        sequence.rows, sequence.since = [self._fill(sequence)], self.steps

    def resize(self, sequence: Sequence, count: int) -> None:
        """Gives a sequence more rows behind its own, or takes its last ones away."""
        held = sequence.rows
        if count == len(held):
            return
        sequence.rows = held[:count] + [self._fill(sequence) for _ in range(count - len(held))]
        for row in held[count:]:
            self._empty(row)

    def leave(self, sequence: Sequence) -> None:
        """Takes a sequence out of its rows; a plain one has read what it got there."""
        if sequence.search is None:
            self.read(sequence)
        for row in sequence.rows:
            self._empty(row)
        sequence.rows = []
        self.reserved -= sequence.width

    def close_holes(self) -> tuple[list[int], list[int]]:
        """Puts the last rows into the holes that nobody took: rows, and where the states of each are."""
        rows: list[int] = []
        sources: list[int] = []
        for hole in sorted(self._holes):
            while self.running and self.running[-1] is None:
                self.running.pop()
            if hole >= len(self.running):
                break
            rows.append(hole)
            sources.append(len(self.running) - 1)
            owner = self.running[hole] = self.running.pop()
            assert owner is not None
            if owner.search is None:
                self.read(owner)
            owner.rows[owner.rows.index(sources[-1])] = hole
        self._holes.clear()
        return rows, sources

    def record(self, tokens: list[int], scores: list[float]) -> None:
        """Logs a step: the token of each row, and its natural-log probability."""
        self._tokens.append(tokens)
        self._scores.append(scores)
        self.steps += 1
        if len(self._tokens) > TRIM_STEPS:
            self._trim()

    def read(self, sequence: Sequence) -> None:
        """Copies what a plain sequence got at its row since the last time."""
        row, first = sequence.rows[0], sequence.since - self._logged_from
        sequence.tokens += [tokens[row] for tokens in self._tokens[first:]]
        sequence.scores += [scores[row] for scores in self._scores[first:]]
        sequence.since = self.steps

    def _trim(self) -> None:
        for row, sequence in enumerate(self.running):
            if sequence is not None and sequence.search is None:
                assert sequence.rows == [row]
                self.read(sequence)
        self._tokens.clear()
        self._scores.clear()
        self._logged_from = self.steps

    def _fill(self, sequence: Sequence) -> int:
        if self._holes:
            row = self._holes.pop()
            self.running[row] = sequence
        else:
            row = len(self.running)
            self.running.append(sequence)
        return row

    def _empty(self, row: int) -> None:
        self.running[row] = None
        self._holes.append(row)
