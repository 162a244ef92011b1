"""How full a lane is, and how long a newcomer would wait there. Knows nothing of who wants its rows."""

from collections import Counter

DECAY = 0.99  # share of the past that an observation leaves


class Load:
    """The rows of one lane, and what all that are inside want of them, by priority.

    Whoever has a lower priority than a newcomer is no queue to him: he goes first, once a row is free.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.wanted = 0  # rows
        self.inside = 0  # sequences
        self._wanted: Counter[int] = Counter()  # rows, by priority
        self._inside: Counter[int] = Counter()  # sequences, by priority
        self._held_seconds = self._freed = 0.0

    @property
    def running(self) -> int:
        """Rows in use, or wanted at once."""
        return min(self.wanted, self.rows)

    @property
    def waiting(self) -> int:
        """Rows that are wanted and that somebody else still has."""
        return self.wanted - self.running

    def enter(self, priority: int, sequences: int, rows: int) -> None:
        """Counts newcomers, and the rows that they want in all."""
        self._change(priority, sequences, rows)

    def leave(self, priority: int, rows: int, held_seconds: float) -> None:
        """Counts a sequence that ended, and how long it had held its rows; 0: it never had any."""
        self._change(priority, -1, -rows)
        if held_seconds > 0:
            self._held_seconds = self._held_seconds * DECAY + held_seconds * rows
            self._freed = self._freed * DECAY + rows

    def has_room(self, priority: int, sequences: int, max_waiting: int) -> bool:
        """Whether so many more may come in, where so many may wait."""
        room = self.rows + max_waiting - sequences
        return self.inside <= room or _from(priority, self._inside) <= room

    def seconds_until_a_row(self, priority: int) -> float:
        """How long a newcomer waits, if all goes on as lately; 0 where a row is free or nobody can tell.

        Rows that are all held for a mean time are freed at the rate rows / mean.
        """
        if self.wanted < self.rows or not self._freed:
            return 0.0
        before = max(0, _from(priority, self._wanted) - self.rows)
        return (before + 1) * self._held_seconds / self._freed / self.rows

    def _change(self, priority: int, sequences: int, rows: int) -> None:
        self.inside += sequences
        self.wanted += rows
        self._inside[priority] += sequences
        self._wanted[priority] += rows


def _from(priority: int, counts: Counter[int]) -> int:
    """What those with this priority or a higher one make in all."""
    return sum(count for level, count in counts.items() if level >= priority)
