"""Continuous batching: sequences join and leave the decoder's rows at any step; nobody waits for the slowest.

Knows nothing of text, transport, tensors or metrics. `running[i]` is the sequence in row i of the engine, so
rows in use are always 0..n-1: a sequence that leaves is replaced by the last one. The step loop runs on a
thread of its own and hands its news to the event loop at most once a step.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Sized
from dataclasses import dataclass, field
from typing import Protocol

from service.errors import Draining, Overloaded
from service.rate import FinishRate
from service.sequence import Outcome, Sequence

log = logging.getLogger(__name__)


class Engine(Protocol):
    """What the scheduler needs: rows of decoder state."""

    rows: int
    end_id: int

    def encode(self, sources: Sized[Sized[int]], first_row: int) -> None:
        """Runs the encoder; source i's state goes to row first_row + i."""

    def step(self, count: int) -> tuple[list[int], list[float]]:
        """Runs the decoder on rows 0..count-1: the next token of each, and its natural-log probability."""

    def move(self, source_row: int, target_row: int) -> None:
        """Copies a row's state over another's."""


@dataclass
class News:
    """What happened since the last news."""

    ended: list[Sequence] = field(default_factory=list)
    streaming: list[Sequence] = field(default_factory=list)  # not ended then, with a new token
    step_rows: list[int] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    encode_rows: list[int] = field(default_factory=list)
    encode_seconds: list[float] = field(default_factory=list)


class Scheduler:
    """`waiting` and `running`, and the loop between them.

    `tell` is called with News, mostly from the step thread, and must not block. `crashed` is called if the
    loop dies.
    """

    def __init__(
        self,
        engine: Engine,
        tell: Callable[[News], None],
        crashed: Callable[[], None],
        max_waiting: int,
        encode_tokens: int,
    ) -> None:
        self.waiting: OrderedDict[int, Sequence] = OrderedDict()  # by identity, in order of arrival
        self.running: list[Sequence] = []
        self._engine = engine
        self._tell = tell
        self._crashed = crashed
        self._max_waiting = max_waiting
        self._encode_tokens = encode_tokens  # most source tokens encoded between two steps
        self._changed = threading.Condition()  # guards `waiting` and the flags below
        self._closed = self._aborting = self._stopping = False
        self._news = News()
        self._rate = FinishRate()
        self._thread = threading.Thread(target=self._run, name="step-loop", daemon=True)

    # Called from the event loop

    def start(self) -> None:
        """Starts the step loop."""
        self._thread.start()

    def submit(self, sequences: Sized[Sequence]) -> None:
        """Queues all of a call's sequences, or none of them.

        Raises Draining, or Overloaded when the queue is full or would outlast the deadline.
        """
        now = time.monotonic()
        with self._changed:
            if self._closed:
                raise Draining("the server is draining")
            wait = self.expected_wait()
            if len(self.waiting) + len(sequences) > self._max_waiting:
                raise Overloaded("QUEUE_FULL", f"the queue is full ({self._max_waiting} sequences)", wait)
            if wait and any(now + wait >= sequence.deadline for sequence in sequences):
                raise Overloaded("DEADLINE_UNREACHABLE", "the queue is longer than the deadline", wait)
            for sequence in sequences:
                sequence.arrived = now
                self.waiting[id(sequence)] = sequence
            self._changed.notify()

    def cancel(self, sequences: Iterable[Sequence]) -> None:
        """Ends those that wait at once, those that run before the next step; the ended stay as they are."""
        ended = []
        with self._changed:
            for sequence in sequences:
                if self.waiting.pop(id(sequence), None) is not None:
                    sequence.finish(Outcome.CANCELLED, time.monotonic())
                    ended.append(sequence)
                else:
                    sequence.cancelled = True
        if ended:
            self._tell(News(ended=ended))

    def abort(self) -> None:
        """Takes no more sequences, and ends every one inside, as drained, before the next step."""
        with self._changed:
            self._closed = self._aborting = True
            self._changed.notify()

    def stop(self) -> None:
        """Ends the step loop, and whatever is still inside."""
        self.abort()
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def expected_wait(self) -> float:
        """Seconds until a sequence that came now would get a row, by the rate at which others finish."""
        ahead = len(self.waiting) + len(self.running) - self._engine.rows
        return self._rate.seconds_for(ahead + 1) if ahead >= 0 else 0.0

    # The step thread

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                began = time.monotonic()
                self._retire_departed(began)
                self._admit(began)
                if self.running:
                    self._step()
                self._report(time.monotonic() - began)
        except Exception:
            log.critical("the step loop died", exc_info=True)
            self._fail_everything()
            self._crashed()

    def _wait_for_work(self) -> bool:
        """Blocks while there is nothing to do. False: the loop is to end."""
        with self._changed:
            while not (self.waiting or self.running or self._stopping):
                self._changed.wait()
            return bool(self.waiting or self.running)

    def _admit(self, now: float) -> None:
        """Fills free rows in order of arrival, as far as the encoder's budget goes; skips the expired."""
        newcomers: list[Sequence] = []
        budget = self._encode_tokens
        with self._changed:
            while self.waiting and len(self.running) + len(newcomers) < self._engine.rows:
                sequence = next(iter(self.waiting.values()))
                budget -= len(sequence.source_ids)
                if newcomers and budget < 0:
                    break
                self.waiting.popitem(last=False)
                if now >= sequence.deadline or self._aborting:
                    self._end(sequence, Outcome.DRAINED if self._aborting else Outcome.DEADLINE, now)
                    continue
                newcomers.append(sequence)
        if newcomers:
            self._encode(newcomers, now)

    def _encode(self, newcomers: list[Sequence], now: float) -> None:
        try:
            self._engine.encode([sequence.source_ids for sequence in newcomers], len(self.running))
        except Exception:
            if len(newcomers) > 1:  # one of them is the culprit: alone, each gets what is his
                for sequence in newcomers:
                    self._encode([sequence], now)
                return
            log.error("the encoder failed", exc_info=True)
            self._end(newcomers[0], Outcome.FAILED, time.monotonic())
            return
        for sequence in newcomers:
            sequence.started = now
        self.running.extend(newcomers)
        self._news.encode_rows.append(len(newcomers))
        self._news.encode_seconds.append(time.monotonic() - now)

    def _step(self) -> None:
        """One decoder run for everybody; whoever ends leaves his row before the next."""
        began = time.monotonic()
        count = len(self.running)
        try:
            tokens, scores = self._engine.step(count)
        except Exception:
            log.error("a decoder step failed", exc_info=True, extra={"rows": count})
            for row in reversed(range(count)):
                self._leave(row, Outcome.FAILED, time.monotonic())
            return
        now = time.monotonic()
        self._news.step_rows.append(count)
        self._news.step_seconds.append(now - began)
        for row in reversed(range(count)):  # from the end: the row that replaces a leaver is already done
            self._take(row, tokens[row], scores[row], now)

    def _take(self, row: int, token: int, score: float, now: float) -> None:
        """Gives a row's token to its sequence, and ends the sequence where it must."""
        sequence = self.running[row]
        if score != score:  # not a number: this row is poisoned, its neighbours are not
            self._leave(row, Outcome.FAILED, now)
            return
        if not sequence.scores:
            sequence.first_token = now
        sequence.scores.append(score)
        if token == self._engine.end_id:
            self._leave(row, Outcome.EOS, now)
            return
        sequence.tokens.append(token)
        if len(sequence.tokens) == sequence.max_length:
            self._leave(row, Outcome.LENGTH, now)
        elif sequence.streams:
            self._news.streaming.append(sequence)

    def _retire_departed(self, now: float) -> None:
        """Frees the rows of those who hung up or ran out of time, before the next step."""
        for row in reversed(range(len(self.running))):
            sequence = self.running[row]
            if self._aborting:
                self._leave(row, Outcome.DRAINED, now)
            elif sequence.cancelled:
                self._leave(row, Outcome.CANCELLED, now)
            elif now >= sequence.deadline:
                self._leave(row, Outcome.DEADLINE, now)

    def _leave(self, row: int, outcome: Outcome, now: float) -> None:
        """Ends the sequence in a row and puts the last row in its place."""
        sequence, last = self.running[row], len(self.running) - 1
        if row != last:
            self._engine.move(last, row)
            self.running[row] = self.running[last]
        self.running.pop()
        self._end(sequence, outcome, now)

    def _end(self, sequence: Sequence, outcome: Outcome, now: float) -> None:
        sequence.finish(outcome, now)
        self._news.ended.append(sequence)

    def _report(self, seconds: float) -> None:
        """Hands over the news if somebody waits for them; bare step figures wait for the next time."""
        self._rate.observe(seconds, len(self._news.ended))
        if self._news.ended or self._news.streaming:
            news, self._news = self._news, News()
            self._tell(news)

    def _fail_everything(self) -> None:
        """The loop is dead: everybody inside still gets an answer."""
        now = time.monotonic()
        with self._changed:
            self._closed = True
            for sequence in (*self.running, *self.waiting.values()):
                if sequence.outcome is None:
                    self._end(sequence, Outcome.FAILED, now)
            self.running.clear()
            self.waiting.clear()
        self._report(0.0)
