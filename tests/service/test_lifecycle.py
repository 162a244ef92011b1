"""Who may hurry a server that stops: people as they like, engines that end by themselves not to its end."""

import asyncio
import time

import pytest

from service.lifecycle import CRASHED, Stop, drain, unless
from service.settings import Settings


async def test_engines_that_end_one_after_the_other_leave_the_others_their_time():
    stop = Stop()
    for _ in range(3):
        stop.crashed()
    assert stop.asked.is_set() and stop.hurried.is_set() and not stop.forced.is_set()
    assert stop.status == CRASHED


async def test_a_person_may_still_force_it():
    """And a crash after his first signal does not."""
    stop = Stop()
    stop.hurry()
    stop.crashed()
    assert not stop.forced.is_set()
    stop.hurry()
    assert stop.forced.is_set()


class Served:
    """All that a drain goes through: the server, the only model and its dispatcher, the loader."""

    def __init__(self) -> None:
        self.empty = asyncio.Event()
        self.done: list[str] = []
        self.dispatcher = self

    def all(self) -> list["Served"]:
        return [self]

    async def say_not_serving(self) -> None:
        self.done.append("not serving")

    def refuse(self) -> None:
        self.done.append("refuse")

    def abort(self) -> None:
        self.done.append("abort")

    async def stop(self) -> None:
        self.done.append("stop")


LIMITS = Settings(lame_duck_seconds=0.0, drain_seconds=0.05)


@pytest.mark.parametrize(
    ("happens", "settings", "aborted"),
    [
        ("", LIMITS, ["abort"]),  # the time of those inside is up
        ("empty", LIMITS, []),
        ("forced", Settings(lame_duck_seconds=0.0, drain_seconds=3600.0), ["abort"]),
    ],
)
async def test_those_inside_have_so_long_and_no_longer(happens, settings, aborted):
    served, stop = Served(), Stop()
    if happens == "empty":
        served.empty.set()
    elif happens == "forced":
        stop.forced.set()
    began = time.monotonic()
    async with asyncio.timeout(5):
        await drain(settings, served, served, served, stop)
    assert served.done == ["not serving", "refuse", *aborted, "stop", "stop"]
    assert happens or time.monotonic() - began >= LIMITS.drain_seconds


async def test_work_goes_on_unless_somebody_asks():
    asked = asyncio.Event()

    async def work(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    assert await unless(asked, work(0)) == "done"
    waiting = asyncio.create_task(unless(asked, work(3600)))
    await asyncio.sleep(0)
    asked.set()
    async with asyncio.timeout(5):
        assert await waiting is None


async def test_what_work_raises_is_raised():
    async def fail() -> None:
        raise ValueError("a bundle")

    with pytest.raises(ValueError, match="a bundle"):
        await unless(asyncio.Event(), fail())
