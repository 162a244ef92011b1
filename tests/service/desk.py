"""A front desk for the tests of service/answers.py."""

import asyncio
import time

from service.answers import Answers, Caller, Key

LATER = time.monotonic() + 100_000  # so far off that no timer goes off by itself
KEY = Key("digest", "fp32", (1, 2, 3), "greedy")


def key(number: int) -> Key:
    return KEY._replace(source=(number,))


class Desk:
    """A front desk: boards callers, names the sequences that fly 1, 2, .. and notes what is cancelled."""

    def __init__(self, kind: type[Answers] = Answers, max_entries=100, max_bytes=1 << 20, share=True) -> None:
        self.cancelled: list[int] = []
        self.answers = kind(self.cancelled.extend, max_entries, max_bytes, share)
        self.started = 0

    def start(self, flight):
        self.started += 1
        flight.sequence = self.started

    def board(self, *keys, deadline=LATER + 10, priority=0, now=LATER):
        """A caller, his flights, and the task that waits."""
        caller = Caller(deadline, priority)
        flights = [self.answers.board(key, caller, now) for key in keys]
        for flight in caller.leads:
            self.start(flight)
        return caller, flights, asyncio.ensure_future(self.answers.wait(caller))


async def settle() -> None:
    """Lets everything happen that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def hang_up(task: asyncio.Future[None]) -> None:
    """Cancels the task of a call that waits."""
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()
