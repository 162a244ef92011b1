"""A sequence: one input on its way through the decoder. Knows nothing of text, transport or the engine."""

from collections.abc import Callable
from enum import Enum


class Outcome(Enum):
    """How a sequence ended. It does so exactly once."""

    EOS = "eos"
    LENGTH = "length"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    DRAINED = "drained"
    FAILED = "failed"


class Sequence:
    """Written by the scheduler alone, except for `cancelled`. Times are seconds of the monotonic clock.

    `on_news` is called on the event loop: once when the sequence has ended, and before that after each
    step with new tokens where `streams` asks for it.
    """

    __slots__ = (
        "arrived",
        "cancelled",
        "deadline",
        "finished",
        "first_token",
        "max_length",
        "on_news",
        "outcome",
        "scores",
        "source_ids",
        "started",
        "streams",
        "tokens",
    )

    def __init__(
        self,
        source_ids: list[int],
        max_length: int,
        deadline: float,
        on_news: Callable[["Sequence"], None],
        streams: bool = False,
    ) -> None:
        self.source_ids = source_ids
        self.max_length = max_length  # target tokens, <E> not counted
        self.deadline = deadline
        self.on_news = on_news
        self.streams = streams
        self.tokens: list[int] = []  # emitted so far, <E> left out
        self.scores: list[float] = []  # natural-log probability of each emitted token, then of <E>
        self.cancelled = False
        self.outcome: Outcome | None = None
        self.arrived = self.started = self.first_token = self.finished = 0.0

    def finish(self, outcome: Outcome, now: float) -> None:
        """Ends the sequence. Ending one twice is a mistake of ours."""
        assert self.outcome is None, f"ended twice: {self.outcome}, then {outcome}"
        self.outcome = outcome
        self.finished = now
