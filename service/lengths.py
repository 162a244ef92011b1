"""When plain greedy sequences must end, and when they may not yet. Knows nothing of queues, searches or time.

Steps are counted as the scheduler takes them, from its first on.
"""

from service.sequence import Sequence


class Lengths:
    """Of each plain sequence that runs: the step with which it ends, and the one from which on it may."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}  # by id: the step with which it ends
        self._ending: dict[int, dict[int, Sequence]] = {}  # by that step, by id
        self._short: dict[int, tuple[Sequence, int]] = {}  # by id; and the step from which on it may end

    def add(self, sequence: Sequence, steps: int) -> None:
        """A sequence starts after so many steps."""
        last = self._last[sequence.id] = steps + sequence.options.max_length
        self._ending.setdefault(last, {})[sequence.id] = sequence
        if sequence.options.min_length:
            self._short[sequence.id] = sequence, steps + sequence.options.min_length

    def discard(self, sequence: Sequence) -> None:
        """A sequence has ended; one that is not plain was never here."""
        last = self._last.pop(sequence.id, None)
        if last is None:
            return
        ending = self._ending[last]
        del ending[sequence.id]
        if not ending:
            del self._ending[last]
        self._short.pop(sequence.id, None)

    def ending(self, steps: int) -> list[Sequence]:
        """Those that end with that step, whatever it said."""
        return list(self._ending.get(steps, {}).values())

    def short_rows(self, steps: int) -> list[int]:
        """Rows of those that may not end with the step after so many."""
        for sequence, least in list(self._short.values()):
            if steps >= least:
                del self._short[sequence.id]
        return [sequence.rows[0] for sequence, _ in self._short.values()]

    def quiet_steps(self, steps: int, most: int) -> int:
        """How many steps, up to `most`, may follow so many before anybody's length counts."""
        for _, least in self._short.values():
            most = min(most, least - steps)
        return next((ahead for ahead in range(1, most) if steps + ahead in self._ending), most)
