"""An engine process: one bundle, one scheduler, one engine, one thread, and a socket to the front.

The step loop has an interpreter of its own, so that it never waits for the event loop's, and a model that
kills its process takes nobody along. Started by the front as `python -m service.engine_process FD`; it ends
when the socket closes.
"""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

from bundle.errors import BundleError
from bundle.reader import read_bundle
from service import logs
from service.channel import Channel
from service.collector import settle
from service.decoder import Decoder, DeviceLost
from service.decoding.search import search_for
from service.errors import StartError
from service.golden import verify
from service.lanes import Lanes
from service.messages import Abort, Batch, Cancel, Failed, Ready, Start, Submit
from service.opening import AnyEngine, open_beside, open_engine
from service.scheduler import Scheduler
from service.sequence import Sequence
from service.waiting import Waiting
from service.watchdog import Watchdog

log = logging.getLogger(__name__)

NICENESS = 6  # where cores are short the front goes first: what it lets in meanwhile shares the next step


def main() -> int:
    """Serves one front. Returns the exit status."""
    os.nice(NICENESS)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the front decides when this ends
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # what the watchdog ends a process with
    logs.configure(sys.argv[2])
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    match channel.receive(wait=True):
        case [Start() as start]:
            with suppress(BrokenPipeError, ConnectionResetError):  # the front is gone
                EngineHost(channel, start).serve()
    return 0


class EngineHost:
    """An engine and what becomes of it: loaded, served, and replaced or given up once its device is lost.

    Under `auto` those who waited go on on the CPU, with those who come; under `cuda` the process ends. Those
    who ran are told either way, so that they may ask again.
    """

    def __init__(self, channel: Channel, start: Start) -> None:
        self._channel = channel
        self._start = start
        self._engines: list[AnyEngine] = []  # never let go of: freeing what a lost device holds may abort
        self._has_lost = False

    def serve(self) -> None:
        """Until the front is gone, or the engine."""
        try:
            engine, express = self._open()
            settle()
            hangs = partial(self._give_up, "the device hangs")  # said from another thread
            watchdog = None if engine.device == "cpu" else Watchdog(hangs)
            run(self._channel, engine, express, self._start.encode_tokens, self._recover, watchdog)
        except (BundleError, StartError) as error:
            self._give_up(str(error))
        except DeviceLost as error:
            self._has_lost = True
            self._give_up(str(error))
        if self._has_lost:
            logging.shutdown()
            os._exit(0)

    def _open(self) -> tuple[AnyEngine, AnyEngine]:
        """As `_load`; under auto, on the CPU where the device does not bring it to an end."""
        start = self._start
        try:
            return self._load(start.profile, start.device, "")
        except (DeviceLost, StartError) as error:
            self._has_lost = isinstance(error, DeviceLost)
            if start.device != "auto" or not self._engines or self._engines[-1].device == "cpu":
                raise
            return self._load(start.profile, "cpu", str(error))

    def _load(self, profile: str, device: str, lost: str) -> tuple[AnyEngine, AnyEngine]:
        """An engine that passed the golden cases, and rows beside it for those with priority."""
        start = self._start
        bundle = read_bundle(Path(start.folder))
        engine, fallback = open_engine(
            bundle, profile, start.rows, device, start.threads, start.kernels, start.tf32
        )
        self._engines.append(engine)
        try:
            express = open_beside(engine, bundle, start.express_rows)
            self._engines.append(express)
            for rows in (engine, express):
                rows.warm_up()
            difference = verify(bundle, engine)
        except StartError:
            raise
        except DeviceLost:
            log.error("the device is lost before its first row", exc_info=True)
            raise
        except Exception as error:  # such as a device without memory for so many rows
            log.error("the engine does not start", exc_info=True)
            raise StartError(
                f"device {engine.device}: {type(error).__name__} before its first row"
            ) from error
        held = sum(rows.held_bytes for rows in (engine, express))
        ready = Ready(engine.device, difference, lost or fallback, engine.profile.name, held, engine.runtime)
        self._channel.send(ready)
        return engine, express

    def _recover(self, lost: DeviceLost) -> tuple[AnyEngine, AnyEngine]:
        """The same on the CPU, in the same profile; the error again where that is not wanted or fails."""
        self._has_lost = True
        if self._start.device != "auto":
            raise lost
        try:
            return self._load(self._engines[0].profile.name, "cpu", str(lost))
        except (BundleError, StartError) as error:
            raise lost from error

    def _give_up(self, reason: str) -> None:
        """Says why nothing more will come."""
        with suppress(OSError):
            self._channel.send(Failed(reason))
        self._channel.hang_up()


Recovery = Callable[[DeviceLost], tuple[Decoder, Decoder]]


def _give_up(lost: DeviceLost) -> tuple[Decoder, Decoder]:
    raise lost


def run(
    channel: Channel,
    engine: Decoder,
    express: Decoder,
    encode_tokens: int,
    recover: Recovery = _give_up,
    watchdog: Watchdog | None = None,
) -> None:
    """Takes messages and ticks until the front is gone. `express` holds rows for those with priority.

    Once their device is lost, those who ran have ended as lost, and `recover` gives others to go on with, or
    raises DeviceLost.
    """
    lanes = _lanes(engine, express, encode_tokens)
    while (messages := channel.receive(wait=not lanes.busy)) is not None:
        for message in messages:
            match message:
                case Submit():
                    for batch in message.batches:
                        lanes.submit(_sequences(batch, engine.emitted))
                case Cancel():
                    lanes.cancel(message.ids)
                case Abort():
                    lanes.abort()
        waiting: list[Sequence] | None = None
        if lanes.busy:
            try:
                with watchdog.watching() if watchdog else nullcontext():
                    lanes.tick()
            except DeviceLost as error:
                log.error("the device is lost", exc_info=True)
                waiting, lost = lanes.lose(), error
        for news in lanes.take_news(at_once=waiting is not None):
            try:
                channel.send(news)
            except OSError:
                return
        if waiting is not None:
            if watchdog:
                watchdog.stop()
            watchdog = None
            lanes = _lanes(*recover(lost), encode_tokens)
            lanes.submit(waiting)


def _lanes(engine: Decoder, express: Decoder, encode_tokens: int) -> Lanes:
    return Lanes(*(Scheduler(rows, Waiting(), encode_tokens) for rows in (engine, express)))


def _sequences(batch: Batch, emitted: int) -> list[Sequence]:
    options = batch.options
    return [
        Sequence(
            id_,
            source_ids,
            options,
            batch.deadline,
            batch.arrived,
            batch.priority,
            batch.streams,
            search_for(options, emitted),
        )
        for id_, source_ids in enumerate(batch.sources, batch.first)
    ]


if __name__ == "__main__":
    sys.exit(main())
