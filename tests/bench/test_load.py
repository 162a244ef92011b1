"""Percentiles, plans and loops, against answers worked out by hand."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import pytest

from bench.answers import Question
from bench.http2 import Call
from bench.load import closed_loop, open_loop, percentile, plan

QUESTION = Question(b"request", b"answer")


class Gaps(Random):
    """Draws these gaps, whatever the rate."""

    def __init__(self, *gaps: float) -> None:
        super().__init__()
        self.gaps = iter(gaps)
        self.rates: list[float] = []

    def expovariate(self, lambd: float = 1.0) -> float:
        self.rates.append(lambd)
        return next(self.gaps)


@dataclass
class Line:
    """A connection whose time goes on only while it is waited on: each call takes `seconds`, one by one."""

    seconds: float
    now: float = 100.0
    inside: list[Call] = field(default_factory=list)
    most: int = 0

    def clock(self) -> float:
        return self.now

    def __len__(self) -> int:
        return len(self.inside)

    def send(self, question: Question) -> Call:
        self.inside.append(Call(question, self.now))
        self.most = max(self.most, len(self.inside))
        return self.inside[-1]

    def receive(self, seconds: float | None = None) -> list[Call]:
        if not self.inside or (seconds is not None and seconds < self.seconds):
            assert seconds is not None, "nothing to wait for"
            self.now += seconds
            return []
        self.now += self.seconds
        call = self.inside.pop(0)
        call.ended, call.status, call.data = self.now, 0, b"answer"
        return [call]


def nobody(_: Question, __: int, ___: bytes) -> None:
    pass


@pytest.mark.parametrize(
    ("values", "percent", "value"),
    [
        ([7.0], 50, 7.0),
        ([7.0], 99, 7.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 51, 3.0),
        ([float(n) for n in range(100, 0, -1)], 50, 50.0),
        ([float(n) for n in range(100, 0, -1)], 99, 99.0),
        ([float(n) for n in range(1, 102)], 99, 100.0),  # 99.99 values: the 100th
        ([1.0] * 99 + [9.0], 99, 1.0),
        ([1.0] * 98 + [9.0] * 2, 99, 9.0),
    ],
)
def test_a_percentile_is_the_nearest_rank(values: list[float], percent: float, value: float) -> None:
    assert percentile(values, percent) == value


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_a_plan_adds_up_the_gaps_and_ends_in_time() -> None:
    random = Gaps(0.25, 0.5, 0.125, 0.5)
    assert plan(8.0, 1.0, random) == [0.25, 0.75, 0.875]
    assert set(random.rates) == {8.0}


def test_a_plan_has_the_rate_and_the_spread_of_a_poisson_process() -> None:
    times = plan(1000.0, 10.0, Random(1))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) == pytest.approx(10_000, abs=300)  # three standard deviations: 3 x sqrt(10,000)
    assert sum(gap > 0.001 for gap in gaps) / len(gaps) == pytest.approx(0.3679, abs=0.015)  # 1 / e
    assert times == plan(1000.0, 10.0, Random(1))
    assert times != plan(1000.0, 10.0, Random(2))


def test_a_closed_loop_keeps_so_many_in_flight() -> None:
    line = Line(1.0)
    run = closed_loop(line, itertools.repeat(QUESTION), 3, 0.0, 20.0, nobody, clock=line.clock)
    assert line.most == 3
    assert set(run.latencies) == {3.0}
    assert len(run.calls) / run.seconds == 1.0


def test_what_ends_in_the_warm_up_or_after_the_end_does_not_count() -> None:
    line = Line(1.0)
    begun: list[float] = []
    run = closed_loop(
        line, itertools.repeat(QUESTION), 1, 4.0, 6.0, nobody, lambda: begun.append(line.now), line.clock
    )
    assert begun == [104.0]
    assert [call.ended for call in run.calls] == [105.0, 106.0, 107.0, 108.0, 109.0, 110.0]
    assert run.seconds == 6.0
    assert line.now == 110.0


def test_a_call_that_was_under_way_counts_for_the_rate_alone() -> None:
    line = Line(1.0)
    run = closed_loop(line, itertools.repeat(QUESTION), 4, 2.0, 10.0, nobody, clock=line.clock)
    assert len(run.calls) - len(run.latencies) == 3


def test_a_closed_loop_waits_until_each_caller_was_answered_since_it_began() -> None:
    line = Line(1.0)
    run = closed_loop(line, itertools.repeat(QUESTION), 4, 1.0, 0.5, nobody, clock=line.clock)
    assert len(run.latencies) == 4


def test_one_more_caller_is_counted_apart() -> None:
    """He asks his own questions, one at a time, and the loop goes on until he was answered."""

    class Slow(Line):
        """Answers the one beside after everybody else."""

        def receive(self, seconds: float | None = None) -> list[Call]:
            self.inside.sort(key=lambda call: (call.question is other, call.sent))
            return super().receive(seconds)

    other = Question(b"other", b"answer")
    line = Slow(1.0)
    shared = iter([QUESTION] * 12)
    run = closed_loop(line, shared, 3, 0.0, 5.0, nobody, clock=line.clock, beside=itertools.repeat(other))
    assert line.most == 4
    assert {call.question for call in run.calls} == {QUESTION}
    assert [call.question for call in run.beside] == [other]
    assert run.seconds == 11 + 2  # of the others, once one has begun the run; and his, the first sent before


def test_a_refusal_is_no_answer() -> None:
    class Full(Line):
        """Refuses every second call."""

        def receive(self, seconds: float | None = None) -> list[Call]:
            (call,) = super().receive(seconds)
            if round(self.now) % 2:
                call.status = 8
            return [call]

    line = Full(1.0)
    run = closed_loop(line, itertools.repeat(QUESTION), 1, 0.0, 10.0, nobody, clock=line.clock)
    assert (len(run.calls), len(run.answered)) == (9, 5)
    assert run.latencies == [1.0] * 5


def test_a_closed_loop_ends_with_its_questions() -> None:
    line = Line(1.0)
    marked: list[int] = []
    mark: Callable[[Question, int, bytes], None] = lambda _, status, __: marked.append(status)  # noqa: E731
    questions: Iterator[Question] = iter([QUESTION] * 5)
    run = closed_loop(line, questions, 2, 0.0, float("inf"), mark, clock=line.clock)
    assert marked == [0] * 5
    assert len(run.calls) / run.seconds == 1.0


def test_an_open_loop_counts_from_the_planned_time() -> None:
    line = Line(3.0)
    # Due at 101, 102 and 111. While the first is waited for, nothing is sent: the second leaves at 104.
    run = open_loop(line, [QUESTION] * 3, [1.0, 2.0, 11.0], nobody, line.clock)
    assert run.latencies == [3.0 + 1.0, 7.0 - 1.0, 3.0]
    assert run.delays == [0.0, 0.0, 0.0]


def test_an_open_loop_pays_for_what_it_sends_late() -> None:
    class Busy(Line):
        """Does not come back before somebody is answered."""

        def receive(self, seconds: float | None = None) -> list[Call]:
            return super().receive(None if self.inside else seconds)

    line = Busy(3.0)
    run = open_loop(line, [QUESTION] * 2, [1.0, 2.0], nobody, line.clock)
    assert run.delays == [0.0, 2.0]
    assert run.latencies == [3.0, 5.0]


def test_an_open_loop_does_not_wait_for_answers() -> None:
    line = Line(9.0)
    open_loop(line, [QUESTION] * 5, [1.0, 2.0, 3.0, 4.0, 5.0], nobody, line.clock)
    assert line.most == 5
