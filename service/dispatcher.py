"""The front's side of scheduling: admits sequences, spreads them over a model's engines, hears how they end.

Knows nothing of text or transport. Lives on the event loop alone.
"""

import logging
import time
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Sized
from functools import partial

from service.errors import Draining, Internal, Overloaded
from service.hypothesis import Outcome
from service.link import Link
from service.load import Load
from service.messages import Abort, Batch, Cancel, Ended, News, is_express
from service.options import Options

log = logging.getLogger(__name__)

EXPRESS_ROWS = 32


class Submission:
    """One sequence between its submission and its end.

    `on_news` is called once when `ended` has been set, and before that with new tokens where it streams.
    """

    __slots__ = (
        "arrived",
        "deadline",
        "ended",
        "engine",
        "express",
        "id",
        "on_news",
        "options",
        "priority",
        "scores",
        "source_ids",
        "streams",
        "tokens",
    )

    def __init__(
        self,
        source_ids: list[int],
        options: Options,
        deadline: float,
        on_news: Callable[["Submission"], None],
        priority: int = 0,
        streams: bool = False,
    ) -> None:
        self.source_ids = source_ids
        self.options = options
        self.deadline = deadline
        self.on_news = on_news
        self.priority = priority
        self.express = is_express(priority)  # it rides in the lane of those with priority
        self.streams = streams
        self.tokens: list[int] = []  # of a stream, so far
        self.scores: list[float] = []
        self.ended: Ended | None = None
        self.engine: _Engine | None = None
        self.id = 0
        self.arrived = 0.0


def express_rows(rows: int) -> int:
    """Rows of the express lane beside so many common ones."""
    return min(EXPRESS_ROWS, rows)


class _Engine:
    """One engine, and the submissions that it has."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.submissions: dict[int, Submission] = {}
        self.rows = [0, 0]  # that its submissions want: common, express


class Dispatcher:
    """All engines of one model. `heard` is told of every piece of news, `crashed` of an engine that ended."""

    def __init__(
        self,
        links: Sized[Link],
        rows: int,
        max_waiting: int,
        heard: Callable[[News, list[Submission]], None],
        crashed: Callable[[], None],
    ) -> None:
        self._engines = [_Engine(link) for link in links]
        for engine in self._engines:
            engine.link.hear = partial(self._hear, engine)
            engine.link.lost = partial(self._lost, engine)
        self._lanes = Load(rows * len(links)), Load(express_rows(rows) * len(links))  # common, express
        self._max_waiting = max_waiting
        self._heard = heard
        self._crashed = crashed
        self._next_id = 1
        self._closed = False
        self.device = "cpu"  # where the engines decode

    @property
    def inside(self) -> int:
        """Sequences that have not ended."""
        return sum(len(engine.submissions) for engine in self._engines)

    @property
    def rows(self) -> int:
        """Rows in all, those for priority included."""
        return sum(lane.rows for lane in self._lanes)

    @property
    def running(self) -> int:
        """Rows in use, or wanted at once."""
        return sum(lane.running for lane in self._lanes)

    @property
    def waiting(self) -> int:
        """Rows that are wanted and that somebody else still has."""
        return sum(lane.waiting for lane in self._lanes)

    def submit(self, submissions: Sized[Submission]) -> None:
        """Takes all of a call's sequences, or none of them. They have one deadline and one priority.

        Raises Draining, or Overloaded when too many wait or the wait would outlast a deadline.
        """
        if self._closed:
            raise Draining("the server is draining")
        if not submissions:
            return
        now, one = time.monotonic(), submissions[0]
        lane = self._lanes[one.express]
        wait = lane.seconds_until_a_row(one.priority)
        if not lane.has_room(one.priority, len(submissions), self._max_waiting):
            raise Overloaded("QUEUE_FULL", f"the queue is full ({self._max_waiting} sequences)", wait)
        if wait and now + wait >= one.deadline:
            raise Overloaded("DEADLINE_UNREACHABLE", "the queue is longer than the deadline", wait)
        first = 0
        for end, submission in enumerate(submissions, 1):
            if end == len(submissions) or submissions[end].options is not submission.options:
                self._send(submissions[first:end], now)
                first = end

    def submit_again(self, submission: Submission, earlier: Submission) -> None:
        """Starts anew what was let in before, with the time that it has waited. Raises Draining."""
        if self._closed:
            raise Draining("the server is draining")
        self._send([submission], earlier.arrived)

    def cancel(self, submissions: Iterable[Submission]) -> None:
        """Their callers left: those that have not ended will, within a step."""
        ids: dict[_Engine, list[int]] = {}
        for submission in submissions:
            if submission.ended is None and submission.engine is not None:
                ids.setdefault(submission.engine, []).append(submission.id)
        for engine, gone in ids.items():
            engine.link.send(Cancel(gone))

    def abort(self) -> None:
        """Takes no more sequences, and ends every one inside as drained."""
        self._closed = True
        for engine in self._engines:
            engine.link.send(Abort())

    def _send(self, submissions: Sized[Submission], arrived: float) -> None:
        """Sends sequences of one kind, each to the engine with the fewest rows wanted."""
        if len(self._engines) == 1:
            self._send_to(self._engines[0], submissions, arrived)
            return
        lane, more = submissions[0].express, submissions[0].options.rows
        wanted = [engine.rows[lane] for engine in self._engines]
        shares: list[list[Submission]] = [[] for _ in wanted]
        for submission in submissions:
            least = wanted.index(min(wanted))
            wanted[least] += more
            shares[least].append(submission)
        for engine, share in zip(self._engines, shares, strict=True):
            if share:
                self._send_to(engine, share, arrived)

    def _send_to(self, engine: _Engine, submissions: Sized[Submission], arrived: float) -> None:
        first, one = self._next_id, submissions[0]
        self._next_id += len(submissions)
        for id_, submission in enumerate(submissions, first):
            submission.id, submission.engine, submission.arrived = id_, engine, arrived
            engine.submissions[id_] = submission
        rows = len(submissions) * one.options.rows
        engine.rows[one.express] += rows
        self._lanes[one.express].enter(one.priority, len(submissions), rows)
        sources = [submission.source_ids for submission in submissions]
        batch = Batch(first, sources, one.options, one.deadline, arrived, one.priority, one.streams)
        engine.link.submit(batch)

    def _hear(self, engine: _Engine, news: News) -> None:
        for progress in news.progress:
            submission = engine.submissions[progress.id]
            submission.tokens += progress.tokens
            submission.scores += progress.scores
            self._tell(submission)
        ended = []
        for end in news.ended:
            submission = engine.submissions.pop(end.id)
            rows = submission.options.rows
            engine.rows[submission.express] -= rows
            held = end.finished - end.started if end.started else 0.0
            self._lanes[submission.express].leave(submission.priority, rows, held)
            submission.ended = end
            ended.append(submission)
            self._tell(submission)
        self._heard(news, ended)

    def _tell(self, submission: Submission) -> None:
        """Whoever cannot take his news is cut off, as cancelled; the others hear theirs."""
        try:
            submission.on_news(submission)
        except Exception:
            error_id = Internal().error_id
            log.error("news were not taken", exc_info=True, extra={"error_id": error_id})
            self.cancel([submission])

    def _lost(self, engine: _Engine) -> None:
        """An engine's process ended by itself: whoever was in it gets an answer all the same."""
        self._closed = True
        now = time.monotonic()
        outcome = Outcome.LOST if engine.link.gave_up else Outcome.FAILED
        ends = [Ended(id_, outcome, [], 0.0, 0.0, now) for id_ in engine.submissions]
        self._hear(engine, News(ended=ends))
        self._crashed()
