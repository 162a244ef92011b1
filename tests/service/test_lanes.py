"""Who has priority rides between the steps of the others, who never stand still for ever."""

import pytest

from service import lanes
from service.hypothesis import Outcome
from service.lanes import TURNS, Lanes
from service.options import Options
from service.scheduler import Scheduler
from service.sequence import Sequence
from service.waiting import Waiting
from tests.service.conftest import CountdownEngine

FAR = 1e9


class Ride:
    """Two lanes over engines that record their steps."""

    def __init__(self, rows: int = 4) -> None:
        self.common, self.express = CountdownEngine(rows), CountdownEngine(2)
        self.lanes = Lanes(*(Scheduler(e, Waiting(), 100) for e in (self.common, self.express)))
        self.ended: dict[int, Outcome] = {}
        self._ids = iter(range(1, 10_000))

    def submit(self, *tokens: int, priority: int = 0) -> list[int]:
        """Sequences of so many tokens each; returns their ids."""
        sequences = [Sequence(next(self._ids), [count], Options(99), FAR, 0.0, priority) for count in tokens]
        self.lanes.submit(sequences)
        return [sequence.id for sequence in sequences]

    def tick(self) -> None:
        self.lanes.tick()
        for news in self.lanes.take_news():
            self.ended.update({ended.id: ended.outcome for ended in news.ended})


def test_a_flood_holds_up_an_express_sequence_by_no_step():
    ride = Ride()
    ride.submit(*[50] * 40)
    ride.tick()
    (urgent,) = ride.submit(3, priority=1)
    before = len(ride.common.counts)
    for _ in range(4):  # three tokens, and <E>
        ride.tick()
    assert ride.ended[urgent] is Outcome.EOS
    assert len(ride.common.counts) == before
    assert ride.express.counts == [1] * 4


def flood_of_priority(ride: Ride, ticks: int) -> int:
    """Keeps the express lane full; returns the most ticks for which the others stood still."""
    still = longest = 0
    for _ in range(ticks):
        ride.submit(5, 5, priority=10)
        before = len(ride.common.counts)
        ride.tick()
        still = 0 if len(ride.common.counts) > before else still + 1
        longest = max(longest, still)
    return longest


def test_nobody_stands_still_for_ever():
    ride = Ride()
    low, _ = ride.submit(3, 50)
    assert flood_of_priority(ride, 6 * TURNS) == TURNS
    assert ride.ended[low] is Outcome.EOS


def test_without_turns_a_flood_of_priority_would_starve_the_others(monkeypatch: pytest.MonkeyPatch):
    """Negative control."""
    monkeypatch.setattr(lanes, "TURNS", 10**9)
    ride = Ride()
    (low,) = ride.submit(3)
    assert flood_of_priority(ride, 6 * TURNS) == 6 * TURNS
    assert low not in ride.ended


def test_cancel_and_abort_reach_both_lanes():
    ride = Ride()
    (low,) = ride.submit(50)
    (high,) = ride.submit(50, priority=1)
    ride.tick()
    ride.lanes.cancel([low])
    ride.lanes.abort()
    assert not ride.lanes.busy
    ride.submit(1)
    ride.tick()
    assert (ride.ended[low], ride.ended[high]) == (Outcome.CANCELLED, Outcome.DRAINED)


def test_the_ended_of_a_few_steps_travel_together():
    """Among many that decode; alone, or with few beside him, nobody waits."""
    ride = Ride(rows=40)
    ids = ride.submit(*[1] * 3, *[2] * 2, *[30] * 30)
    told = []
    wait, more = lanes.COMPANY_STEPS - 1, 5
    for _ in range(wait + more):
        ride.tick()
        told.append(len(ride.ended))
    assert told == [0] * wait + [5] * more
    assert set(ride.ended) == set(ids[:5])
    few = Ride(rows=40)
    few.submit(1, 30)
    few.tick()
    few.tick()
    assert len(few.ended) == 1


def test_so_many_answers_do_not_wait():
    ride = Ride(rows=40)
    ride.submit(*[0] * lanes.COMPANY_ENDS, *[30] * 20)
    ride.tick()
    assert len(ride.ended) == lanes.COMPANY_ENDS


def test_neither_do_streams_nor_priority():
    ride = Ride(rows=40)
    ride.submit(*[30] * 30)
    (urgent,) = ride.submit(0, priority=1)
    ride.tick()
    assert urgent in ride.ended
    ride.lanes.submit([Sequence(99, [5], Options(99), FAR, 0.0, streams=True)])
    ride.lanes.tick()
    ride.lanes.tick()
    (news,) = ride.lanes.take_news()
    assert news.progress[0].id == 99


def test_when_an_engine_is_given_up_nothing_is_held_back():
    ride = Ride(rows=40)
    ride.submit(0, *[30] * 30)
    ride.lanes.tick()
    assert ride.lanes.take_news() == []
    (news,) = ride.lanes.take_news(at_once=True)
    assert len(news.ended) == 1
