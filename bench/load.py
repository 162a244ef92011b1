"""Load: closed loops, in which a caller waits for his answer, and open ones, in which nobody waits.

Knows nothing of gRPC: a call is any coroutine function of one item. Times are seconds.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

Item = TypeVar("Item")
Call = Callable[[Item], Awaitable[None]]
Clock = Callable[[], float]


@dataclass(frozen=True)
class ClosedRun:
    """What a closed loop saw: each call's latency, and how long it all took."""

    latencies: list[float]
    seconds: float


@dataclass(frozen=True)
class OpenRun:
    """What an open loop saw, call by call: from the planned time to the answer, and to the sending."""

    latencies: list[float]
    delays: list[float]


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


async def closed_loop(
    call: Call[Item], items: Iterator[Item], in_flight: int, seconds: float, clock: Clock = time.perf_counter
) -> ClosedRun:
    """`in_flight` callers, each with his next item as soon as the last is answered."""
    latencies: list[float] = []
    began = clock()

    async def caller() -> None:
        sent = clock()
        while sent < began + seconds:
            await call(next(items))
            answered = clock()
            latencies.append(answered - sent)
            sent = answered

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return ClosedRun(latencies, clock() - began)


async def open_loop(
    call: Call[Item], items: Sequence[Item], times: Sequence[float], clock: Clock = time.perf_counter
) -> OpenRun:
    """Sends item i at times[i], whoever still waits.

    Latency counts from the planned time, so a server that stalls pays for all those who would have called
    meanwhile, and so does a client that sends late.
    """
    latencies = [math.nan] * len(times)
    delays: list[float] = []
    began = clock()

    async def one(index: int, planned: float) -> None:
        await call(items[index])
        latencies[index] = clock() - planned

    async with asyncio.TaskGroup() as calls:
        for index, offset in enumerate(times):
            planned = began + offset
            while (left := planned - (now := clock())) > 0:  # noqa: ASYNC110 - a timer may end early
                await asyncio.sleep(left)
            delays.append(now - planned)
            calls.create_task(one(index, planned))
    return OpenRun(latencies, delays)
