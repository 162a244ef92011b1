"""An engine process: one bundle, one scheduler, one engine, one thread, and a socket to the front.

The step loop has an interpreter of its own, so that it never waits for the event loop's, and a model that
kills its process takes nobody along. Started by the front as `python -m service.engine_process FD`; it ends
when the socket closes.
"""

import gc
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from bundle.errors import BundleError
from bundle.reader import read_bundle
from service import logs
from service.channel import Channel
from service.decoder import Decoder
from service.decoding.search import search_for
from service.engine import Engine, open_engine
from service.errors import StartError
from service.golden import verify
from service.lanes import Lanes
from service.messages import Abort, Cancel, Failed, Item, Ready, Start, Submit
from service.scheduler import Scheduler
from service.sequence import Sequence
from service.waiting import Waiting

log = logging.getLogger(__name__)

NICENESS = 10  # where cores are short the front goes first: what it lets in meanwhile shares the next step


def main() -> int:
    """Serves one front. Returns the exit status."""
    os.nice(NICENESS)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the front decides when this ends
    logs.configure(sys.argv[2])
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    match channel.receive(wait=True):
        case [Start() as start]:
            with suppress(BrokenPipeError, ConnectionResetError):  # the front is gone
                _serve(channel, start)
    return 0


def _serve(channel: Channel, start: Start) -> None:
    try:
        bundle = read_bundle(Path(start.folder))
        engine, fallback = open_engine(bundle, start.profile, start.rows, start.device, start.threads)
        express = Engine(bundle, start.profile, start.express_rows, engine.device, beside=engine)
        for rows in (engine, express):
            rows.warm_up()
        difference = verify(bundle, engine)
    except (BundleError, StartError) as error:
        channel.send(Failed(str(error)))
        return
    channel.send(Ready(engine.device, difference, fallback))
    gc.collect()
    gc.freeze()  # what is here now stays: the collector need not look at it again
    run(channel, engine, express, start.encode_tokens)


def run(channel: Channel, engine: Decoder, express: Decoder, encode_tokens: int) -> None:
    """Takes messages and ticks until the front is gone. `express` holds rows for those with priority."""
    lanes = Lanes(*(Scheduler(rows, Waiting(), encode_tokens) for rows in (engine, express)))
    while (messages := channel.receive(wait=not lanes.busy)) is not None:
        for message in messages:
            match message:
                case Submit():
                    lanes.submit([_sequence(item, engine.emitted) for item in message.items])
                case Cancel():
                    lanes.cancel(message.ids)
                case Abort():
                    lanes.abort()
        if lanes.busy:
            lanes.tick()
        for news in lanes.take_news():
            try:
                channel.send(news)
            except OSError:
                return


def _sequence(item: Item, emitted: int) -> Sequence:
    return Sequence(
        item.id,
        item.source_ids,
        item.options,
        item.deadline,
        item.arrived,
        item.priority,
        item.streams,
        search_for(item.options, emitted),
    )


if __name__ == "__main__":
    sys.exit(main())
