"""A sequence: one input on its way through the decoder. Knows nothing of text, transport or the engine."""

from service.decoding.search import Search
from service.hypothesis import REASONS, Hypothesis, Outcome, sum_of
from service.messages import Ended
from service.options import Options


class Sequence:
    """Written by the scheduler alone. Times are seconds of the monotonic clock, the same in every process.

    A plain greedy sequence has one row and no `search`; its tokens lie in the rows' log until it ends
    or moves. Every other one has a search, which decides what its rows read.
    """

    __slots__ = (
        "arrived",
        "deadline",
        "first_token",
        "id",
        "options",
        "outcome",
        "priority",
        "rows",
        "scores",
        "search",
        "sent",
        "since",
        "source_ids",
        "started",
        "streams",
        "tokens",
    )

    def __init__(
        self,
        id: int,
        source_ids: list[int],
        options: Options,
        deadline: float,
        arrived: float,
        priority: int = 0,
        streams: bool = False,
        search: Search | None = None,
    ) -> None:
        self.id = id
        self.source_ids = source_ids
        self.options = options
        self.deadline = deadline
        self.arrived = arrived
        self.priority = priority
        self.streams = streams
        self.search = search
        self.rows: list[int] = []
        self.since = 0  # the step from which on its tokens are in the log, at its row
        self.tokens: list[int] = []  # before that step
        self.scores: list[float] = []  # natural-log probabilities of those
        self.sent = 0  # how many of its tokens a stream has been told
        self.outcome: Outcome | None = None
        self.started = self.first_token = 0.0

    @property
    def width(self) -> int:
        """Rows that are kept for it."""
        return self.search.width if self.search else 1

    @property
    def looks(self) -> int:
        """Tokens of its source whose alignments are asked for."""
        return len(self.source_ids) if self.options.alignments else 0

    @property
    def escalated(self) -> bool:
        """Whether it is a cascade that went on to its beam."""
        return self.options.cascade_margin > 0 and self.width > 1

    def finish(self, outcome: Outcome, now: float) -> Ended:
        """Ends the sequence, with what it has to show. Ending one twice is a mistake of ours."""
        assert self.outcome is None, f"ended twice: {self.outcome}, then {outcome}"
        self.outcome = outcome
        return Ended(
            id=self.id,
            outcome=outcome,
            hypotheses=self._found(outcome),
            started=self.started,
            first_token=self.first_token,
            finished=now,
            escalated=self.escalated,
        )

    def _found(self, outcome: Outcome) -> list[Hypothesis]:
        """Its search's best, or its own greedy tokens; nothing where such an end has nothing to show."""
        reason = REASONS.get(outcome)
        if reason is None or (reason == "deadline" and not self.options.partial_on_deadline):
            return []
        if self.search is not None:
            if reason == "deadline":
                self.search.finish(reason)
            began = [found for found in self.search.hypotheses if found.scores]
            return began if reason == "deadline" else self.search.hypotheses  # an end may have no tokens
        if not self.scores:
            return []
        tokens = self.tokens[:-1] if reason == "eos" else self.tokens
        score = sum_of(self.scores)
        return [Hypothesis(tokens, self.scores, reason, score, score)]
