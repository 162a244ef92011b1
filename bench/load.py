"""Load: closed loops, in which a caller waits for his answer, and open ones, in which nobody waits.

Knows nothing of gRPC: a connection sends questions and returns the calls that have ended. Times are seconds.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from bench.answers import Question

Clock = Callable[[], float]
Mark = Callable[[Question, int, bytes], None]


class Call(Protocol):
    """One call, as in bench/http2.py."""

    question: Question
    sent: float
    first: float
    ended: float
    status: int
    data: bytes


class Connection(Protocol):
    """What a loop needs: `len` is the number of calls that have not ended."""

    def __len__(self) -> int: ...

    def send(self, question: Question) -> Call:
        """Begins a call."""

    def receive(self, seconds: float | None = None) -> Sequence[Call]:
        """Waits for calls to end, so long at most."""


@dataclass
class Run:
    """The calls that ended within `seconds` of `began`. `delays`: how late each was sent.

    `beside`: those of one more caller, if there was one, as far as they were sent since it began.
    """

    calls: list[Call] = field(default_factory=list)
    began: float = 0.0
    seconds: float = 0.0
    delays: list[float] = field(default_factory=list)
    beside: list[Call] = field(default_factory=list)

    @property
    def answered(self) -> list[Call]:
        """Those of the calls that were not refused."""
        return [call for call in self.calls if call.status == 0]

    @property
    def latencies(self) -> list[float]:
        """From when a call was sent, or was to be sent, to its answer; of those sent since the run began."""
        return [call.ended - call.sent for call in self.answered if call.sent >= self.began]


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank: the least value that at least `percent` of all values do not exceed."""
    if not values:
        raise ValueError("no values, so no percentile")
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def plan(rate: float, seconds: float, random: Random) -> list[float]:
    """Times at which to send, from 0 to `seconds`: a Poisson process of `rate` calls a second."""
    times = []
    time_ = random.expovariate(rate)
    while time_ < seconds:
        times.append(time_)
        time_ += random.expovariate(rate)
    return times


def closed_loop(
    connection: Connection,
    questions: Iterator[Question],
    in_flight: int,
    warm_up: float,
    seconds: float,
    mark: Mark,
    begin: Callable[[], object] = lambda: None,
    clock: Clock = time.perf_counter,
    beside: Iterator[Question] | None = None,
) -> Run:
    """`in_flight` callers, each with his next question as soon as the last is answered.

    It ends with the questions, or with the time once each caller could have been answered twice. Calls count
    that end after the warm-up, once `begin` has been called, and before the end. One more caller may ask what
    is in `beside`, which does not end; his calls are kept apart.
    """
    run = Run()
    warm = clock() + warm_up
    stop = warm + seconds
    over, whole = False, 0  # calls sent and ended since the run began
    for _ in range(in_flight):
        _send_next(connection, questions)
    his = _send_next(connection, beside) if beside else None
    while len(connection):
        for call in connection.receive():
            mark(call.question, call.status, call.data)
            call.data = b""
            if run.began and not over:
                run.seconds = call.ended - run.began
                if call is not his:
                    run.calls.append(call)
                    whole += call.sent >= run.began
                elif call.sent >= run.began:
                    run.beside.append(call)
                over = call.ended >= stop and whole >= in_flight and (not beside or bool(run.beside))
            if not run.began and call.ended >= warm:
                begin()
                run.began = clock()
            if not over and beside and call is his:
                his = _send_next(connection, beside)
            elif not over:
                _send_next(connection, questions)
    return run


def _send_next(connection: Connection, questions: Iterator[Question]) -> Call | None:
    question = next(questions, None)
    return None if question is None else connection.send(question)


def open_loop(
    connection: Connection,
    questions: Sequence[Question],
    times: Sequence[float],
    mark: Mark,
    clock: Clock = time.perf_counter,
) -> Run:
    """Sends question i at times[i], whoever still waits.

    Latency counts from the planned time, so a server that stalls pays for all those who would have called
    meanwhile, and so does a client that sends late.
    """
    run = Run(began=clock())
    sent = 0
    while sent < len(times) or len(connection):
        now = clock()
        while sent < len(times) and run.began + times[sent] <= now:
            call = connection.send(questions[sent])
            call.sent = run.began + times[sent]
            run.delays.append(now - call.sent)
            sent += 1
        left = run.began + times[sent] - now if sent < len(times) else None
        for call in connection.receive(left):
            mark(call.question, call.status, call.data)
            call.data = b""
            run.calls.append(call)
            run.seconds = call.ended - run.began
    return run
