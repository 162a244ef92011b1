"""The front's end of the link to one engine process: starting it, messages both ways, and its end."""

import asyncio
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

from service.errors import StartError
from service.messages import (
    Batch,
    Failed,
    Frames,
    FromEngine,
    News,
    Ready,
    Start,
    Submit,
    ToEngine,
    frame,
)

log = logging.getLogger(__name__)

ENGINE_MODULE = "service.engine_process"  # what an engine's process runs
STOP_SECONDS = 2.0
REAP_SECONDS = 0.2  # between the end of a process's socket and its own
MANY = 16  # sequences that wait for no others of the same turn: the engine begins while the front goes on


class Link(asyncio.Protocol):
    """Messages to and from one engine. What is submitted in one turn of the event loop travels together."""

    def __init__(self, end: socket.socket) -> None:
        self.hear: Callable[[News], None] = lambda _: None
        self.lost: Callable[[], None] = lambda: None
        self.moved: Callable[[Ready], None] = lambda _: None  # it has lost its device, and goes on elsewhere
        self.gave_up = ""  # why it is about to end, or did, where that is its device
        self.died: Callable[[], str] = lambda: ""  # the same, of an end that it did not announce
        self._end = end
        self._frames = Frames(FromEngine)
        self._first: asyncio.Future[Ready | Failed] = asyncio.get_running_loop().create_future()
        self._batches: list[Batch] = []
        self._held = 0  # sequences in those
        self._transport: asyncio.WriteTransport | None = None
        self._closing = self._announced = False

    async def open(self) -> None:
        """Takes the socket over."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=self._end)

    async def ready(self) -> Ready:
        """What the engine said when it was ready. Raises StartError when it cannot serve."""
        answer = await self._first
        if isinstance(answer, Failed):
            raise StartError(answer.reason)
        return answer

    @property
    def closed(self) -> bool:
        """Whether the engine is gone, or was told to go."""
        return self._closing

    def send(self, message: ToEngine) -> None:
        """Sends a message at once, after every sequence submitted so far."""
        self._flush()
        self._write(message)

    def submit(self, batch: Batch) -> None:
        """Sends sequences before the event loop next waits, or once there are many."""
        if not self._batches:
            asyncio.get_running_loop().call_soon(self._flush)
        self._batches.append(batch)
        self._held += len(batch.sources)
        if self._held >= MANY:
            self._flush()

    def close(self) -> None:
        """Closes the socket: the engine ends."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        if self._batches:
            batches, self._batches, self._held = self._batches, [], 0
            self._write(Submit(batches))

    def _write(self, message: ToEngine) -> None:
        if self._transport is not None and not self._closing:
            self._transport.write(frame(message))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            if isinstance(message, News):
                self.hear(message)
            else:
                assert isinstance(message, Ready | Failed)
                self._answered(message)

    def _answered(self, message: Ready | Failed) -> None:
        self._announced = isinstance(message, Failed)
        if not self._first.done():
            self._first.set_result(message)
        elif isinstance(message, Ready):
            self.moved(message)
        else:
            self.gave_up = message.reason

    def connection_lost(self, _: Exception | None) -> None:
        if not self._first.done():
            self._first.set_result(Failed("its process ended before it was ready"))
        if not self._closing:
            self._closing = True
            if not self._announced:
                self.gave_up = self.died()
            self.lost()


class EngineProcess:
    """A process that runs one engine, and the link to it."""

    def __init__(self, start: Start, log_level: str) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", ENGINE_MODULE, str(theirs.fileno()), log_level]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        ours.setblocking(False)
        self.link = Link(ours)
        self.link.died = self._died
        self._start = start

    async def open(self) -> Ready:
        """Loads the bundle there. Raises StartError when it cannot be served."""
        await self.link.open()
        self.link.send(self._start)
        return await self.link.ready()

    def stop(self) -> None:
        """Ends the process. Blocks for a moment; an engine that hangs is killed."""
        self.link.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _died(self) -> str:
        """Logs an end out of the blue. Returns why, where it was the watchdog's last resort, a signal."""
        status = None
        with suppress(subprocess.TimeoutExpired):
            status = self._process.wait(REAP_SECONDS)
        folder = Path(self._start.folder)
        model = f"{folder.parent.name}/{folder.name}"
        log.error("an engine died", extra={"model": model, "pid": self._process.pid, "status": status})
        return "the device hangs" if status == -signal.SIGALRM else ""
