"""How fast rows are freed, from what was seen lately. Knows nothing of who had them."""

MEMORY = 0.99  # share of the past that an observation leaves


class FinishRate:
    """A rate over busy time alone: an idle lift is not a slow one."""

    def __init__(self) -> None:
        self._busy_seconds = self._freed = 0.0

    def observe(self, busy_seconds: float, freed: int) -> None:
        """Counts a time of work, and the rows that were freed in it."""
        self._busy_seconds = self._busy_seconds * MEMORY + busy_seconds
        self._freed = self._freed * MEMORY + freed

    def seconds_for(self, count: int) -> float:
        """Seconds until so many more rows are free; 0 where none has been yet, and nobody can tell."""
        return count * self._busy_seconds / self._freed if self._freed else 0.0
