"""How fast sequences finish, from what was seen lately. Knows nothing of what they are."""

MEMORY = 0.99  # share of the past that an observation leaves


class FinishRate:
    """A rate over busy time alone: an idle lift is not a slow one."""

    def __init__(self) -> None:
        self._busy_seconds = self._finished = 0.0

    def observe(self, busy_seconds: float, finished: int) -> None:
        """Counts one turn of the step loop."""
        self._busy_seconds = self._busy_seconds * MEMORY + busy_seconds
        self._finished = self._finished * MEMORY + finished

    def seconds_for(self, count: int) -> float:
        """Seconds until so many more have finished; 0 where nothing has finished yet, and nobody can tell."""
        return count * self._busy_seconds / self._finished if self._finished else 0.0
