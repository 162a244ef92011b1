"""Percentiles, plans and loops, against answers worked out by hand."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from random import Random

import pytest

from bench.load import closed_loop, open_loop, percentile, plan


class Gaps(Random):
    """Draws these gaps, whatever the rate."""

    def __init__(self, *gaps: float) -> None:
        super().__init__()
        self.gaps = iter(gaps)
        self.rates: list[float] = []

    def expovariate(self, lambd: float = 1.0) -> float:
        self.rates.append(lambd)
        return next(self.gaps)


def clock_of(*times: float) -> Callable[[], float]:
    readings: Iterator[float] = iter(times)
    return lambda: next(readings)


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


async def test_an_open_loop_counts_from_the_planned_time() -> None:
    async def call(_: str) -> None:
        pass

    # Begun at 100. The first is due at 101, sent at 103, answered at 106; the second 102, 104, 109.
    clock = clock_of(100.0, 103.0, 104.0, 106.0, 109.0)
    run = await open_loop(call, ["a", "b"], [1.0, 2.0], clock)
    assert run.delays == [2.0, 2.0]
    assert run.latencies == [5.0, 7.0]


async def test_an_open_loop_does_not_wait_for_answers() -> None:
    third_sent = asyncio.Event()

    async def call(item: int) -> None:
        if item == 2:
            third_sent.set()
        await third_sent.wait()

    run = await asyncio.wait_for(open_loop(call, [0, 1, 2], [0.0, 0.0, 0.0]), 10)
    assert len(run.latencies) == 3


async def test_a_closed_loop_does_wait() -> None:
    third_sent, sent = asyncio.Event(), []

    async def call(item: int) -> None:
        sent.append(item)
        if item == 2:
            third_sent.set()
        await third_sent.wait()

    loop = asyncio.create_task(closed_loop(call, itertools.count(), 2, 60.0))
    for _ in range(20):
        await asyncio.sleep(0)
    assert sent == [0, 1]
    loop.cancel()


async def test_a_closed_loop_times_each_call_and_stops() -> None:
    inside, most = 0, 0

    async def call(_: int) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1

    # Begins at 0; one caller begins at 0, answers come at 1, 3 and 6, and at 6 five seconds are over.
    run = await closed_loop(call, itertools.count(), 1, 5.0, clock_of(0.0, 0.0, 1.0, 3.0, 6.0, 6.5))
    assert run.latencies == [1.0, 2.0, 3.0]
    assert run.seconds == 6.5
    assert most == 1
    await closed_loop(call, itertools.count(), 3, 0.01)
    assert most == 3
