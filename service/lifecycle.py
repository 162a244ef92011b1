"""How the server is told to stop, and how it does: from the outside in, with nobody dropped."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from service.catalogue import Models
from service.loading import Loader
from service.server import Server
from service.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

CRASHED, OVERRAN = 1, 70  # exit statuses: an engine died; the drain outlasted every limit
WATCHDOG_SECONDS = 3.0  # past every limit of the drain


class Stop:
    """Who asked us to stop, and how urgently.

    SIGTERM asks politely. A second one, or SIGINT, skips the lame duck; one more ends what is left at once.
    """

    def __init__(self) -> None:
        self.asked, self.hurried, self.forced = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.status = 0

    def listen(self) -> None:
        """Takes SIGTERM and SIGINT over."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.ask)
        loop.add_signal_handler(signal.SIGINT, self.hurry)

    def ask(self) -> None:
        """Stops, or if already stopping, faster."""
        if self.asked.is_set():
            self.hurry()
        self.asked.set()

    def hurry(self) -> None:
        """Stops without the lame-duck time, or if that is over already, at once."""
        self.asked.set()
        (self.forced if self.hurried.is_set() else self.hurried).set()

    def crashed(self) -> None:
        """An engine ended by itself: its model answers no call any more."""
        self.status = CRASHED
        self.asked.set()
        self.hurried.set()


async def unless(asked: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What some work comes to; None where we are asked to stop first. Raises what the work raises."""
    working, asking = asyncio.create_task(work), asyncio.create_task(asked.wait())
    await asyncio.wait((working, asking), return_when=asyncio.FIRST_COMPLETED)
    asking.cancel()
    if working.done():
        return working.result()
    working.cancel()
    await asyncio.wait((working,))
    return None


async def drain(settings: Settings, server: Server, models: Models, loader: Loader, stop: Stop) -> None:
    """Health NOT_SERVING; lame duck; no new calls; those inside finish, or at the limit get UNAVAILABLE."""
    log.info("draining")
    limit = settings.lame_duck_seconds + settings.drain_seconds + WATCHDOG_SECONDS
    watchdog = threading.Timer(limit, os._exit, (OVERRAN,))
    watchdog.daemon = True
    watchdog.start()
    await server.say_not_serving()
    await _happens(stop.hurried, settings.lame_duck_seconds)
    server.refuse()
    if not await _first(server.empty, stop.forced, settings.drain_seconds):
        for model in models.all():
            model.dispatcher.abort()
    await server.stop()
    await loader.stop()
    watchdog.cancel()


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Waits for an event, but not for long."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def _first(wanted: asyncio.Event, unwanted: asyncio.Event, seconds: float) -> bool:
    """Whether one event comes before the other, and in time."""
    waits = [asyncio.create_task(event.wait()) for event in (wanted, unwanted)]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    return wanted.is_set()
