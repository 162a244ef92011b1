"""Engines of ten lines, and a real server on port 0 around whichever engine a test wants."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from bundle.reader import Bundle, read_bundle
from chairlift.v1 import seq2seq_pb2 as pb
from chairlift.v1.seq2seq_pb2_grpc import Seq2SeqServiceStub
from service.catalogue import Models
from service.channel import Channel
from service.decoder import put_off_ends
from service.decoding.distributions import Distributions
from service.engine import Engine
from service.engine_process import run
from service.link import Link
from service.loading import start_model
from service.metrics import Metrics
from service.models import Model
from service.server import Server
from service.servicer import Servicer
from service.settings import Settings


class CountdownEngine:
    """Answers a source that ends in id n with the tokens n, n-1, .. 1, then <E>."""

    end_id = 0
    emitted = 20
    run_seconds = 0.0
    replayed = False

    def __init__(self, rows: int = 4) -> None:
        self.rows = rows
        self.left = [0] * rows
        self.source: list[list[int]] = [[]] * rows
        self.encoded: list[list[int]] = []
        self.counts: list[int] = []

    def encode(self, sources, rows):
        for row, source in zip(rows, sources, strict=True):
            self.left[row] = source[-1]
            self.source[row] = list(source)
            self.encoded.append(list(source))

    def step(self, count):
        self.counts.append(count)
        tokens = self.left[:count]
        self.left[:count] = [max(0, left - 1) for left in tokens]
        self.named = tokens
        return tokens, [-0.5] * count

    def steps(self, count, most, short=()):
        tokens, scores = self.step(count)
        put_off_ends(self, short, tokens, scores)
        return [(tokens, scores)]

    def step_singly(self, count):
        return *CountdownEngine.step(self, count), []

    def distributions(self, rows):
        """The token that the last step named, and nothing else worth speaking of."""
        best = [self.named[row] for row in rows]
        scores = np.full((len(best), self.emitted), -5.0, np.float32)
        scores[range(len(best)), best] = -0.5
        order = np.argsort(-scores, axis=1, kind="stable")[:, :8]
        return Distributions(scores, order.tolist(), np.take_along_axis(scores, order, 1).tolist())

    def place(self, rows, sources, tokens):
        self.move(rows, sources)

    def move(self, rows, sources):
        left, source = list(self.left), list(self.source)
        for row, from_row in zip(rows, sources, strict=True):
            self.left[row], self.source[row] = left[from_row], source[from_row]


class GatedEngine(CountdownEngine):
    """Stops inside every step until it is let go. `entered` is released each time it gets there."""

    def __init__(self, rows: int = 4) -> None:
        super().__init__(rows)
        self.entered = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)
        self._open = False

    def step(self, count):
        self.entered.release()
        if not self._open:
            self._gate.acquire()
        return super().step(count)

    def let_go(self, steps: int = 1) -> None:
        self._gate.release(steps)

    def open(self) -> None:
        self._open = True
        self._gate.release()


class BrokenEngine(CountdownEngine):
    """Sources that start with 13 score not-a-number; a step throws for 14, an encoder run for 15."""

    def encode(self, sources, rows):
        if any(source[0] == 15 for source in sources):
            raise RuntimeError("a secret of the encoder")
        super().encode(sources, rows)

    def step(self, count):
        if any(source[0] == 14 for source in self.source[:count]):
            raise RuntimeError("a secret of the engine")
        return self._poisoned(count)

    def step_singly(self, count):
        return *self._poisoned(count), [row for row in range(count) if self.source[row][0] == 14]

    def _poisoned(self, count):
        firsts = [source[0] for source in self.source[:count]]
        tokens, _ = super().step(count)
        return tokens, [float("nan") if first == 13 else -0.5 for first in firsts]


@dataclass
class Service:
    """A server in this event loop, with a channel to it."""

    address: str
    channel: grpc.aio.Channel
    stub: Seq2SeqServiceStub
    model: Model
    models: Models
    server: Server
    registry: CollectorRegistry
    bundle: Bundle
    engine: object
    link: Link
    thread: threading.Thread
    crash: asyncio.Event

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value; labels of the model are filled in."""
        model = {"model": self.model.manifest.name, "version": str(self.model.manifest.version)}
        own = name.startswith("chairlift_") and not labels.pop("bare", False)
        return self.registry.get_sample_value(name, {**(model if own else {}), **labels}) or 0.0

    def samples(self, name: str) -> list[Sample]:
        """Every sample of a name, with its labels."""
        return [s for metric in self.registry.collect() for s in metric.samples if s.name == name]

    async def ask(self, *inputs: str, seconds: float = 10, **options: int) -> pb.GenerateResponse:
        """Generate, with the options of decoding as keywords."""
        request = pb.GenerateRequest(inputs=inputs, options=pb.DecodingOptions(**options))
        return await self.stub.Generate(request, timeout=seconds)

    async def texts(self, *inputs: str) -> list[str]:
        """The best texts of inputs."""
        return [r.generation.hypotheses[0].text for r in (await self.ask(*inputs)).results]


Start = Callable[..., Awaitable[Service]]


@pytest.fixture(scope="session")
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


@pytest.fixture
async def start(bundle: Bundle, front: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Start]:
    """Starts services; afterwards all must be idle, with every row free and every call counted once."""
    running: list[Service] = []

    async def start_one(engine=None, bundle=bundle, profile="fp32", **options) -> Service:
        rows = engine.rows if engine else 8
        chosen = {"max_rows": rows, "single_flight": False, "front": front, **options}
        settings = Settings(listen="127.0.0.1:0", **chosen)
        registry = CollectorRegistry()
        metrics = Metrics(registry)
        engine = engine or Engine(bundle, profile, settings.max_rows)
        crash = asyncio.Event()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        link = Link(ours)
        await link.open()
        express = (
            Engine(bundle, profile, rows, beside=engine)
            if isinstance(engine, Engine)
            else CountdownEngine(rows)
        )
        thread = threading.Thread(target=_serve, args=(theirs, engine, express, settings.encode_tokens))
        thread.start()  # the engine's own loop, its own messages; only the process is missing
        model = start_model(bundle, profile, "cpu", [link], settings, metrics, crash.set)
        models = Models([model], bundle.manifest.name)
        server = Server(Servicer(models, settings.max_request_seconds), metrics, settings)
        address = await server.start()
        channel = grpc.aio.insecure_channel(address)
        stub = Seq2SeqServiceStub(channel)
        running.append(
            Service(
                address, channel, stub, model, models, server, registry, bundle, engine, link, thread, crash
            )
        )
        return running[-1]

    yield start_one
    for service in running:
        if isinstance(service.engine, GatedEngine):
            service.engine.open()
        await service.channel.close()
        service.server.refuse()
        async with asyncio.timeout(5):
            await service.server.stop()
            await until(lambda service=service: not service.model.dispatcher.inside)
        service.link.close()
        await asyncio.to_thread(service.thread.join, 5)
        assert not service.thread.is_alive()
        check_ledger(service)
    assert "never ended" not in caplog.text  # calls that the front forgot


def _serve(end: socket.socket, engine, express, encode_tokens: int) -> None:
    with end:
        more = [engine.recover] if hasattr(engine, "recover") else []
        run(Channel(end), engine, express, encode_tokens, *more)


@pytest.fixture
def nobody_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newcomers get their rows at once, unless a test says otherwise."""
    monkeypatch.setattr("service.scheduler.HOLD_STEPS", 0)


async def until(condition: Callable[[], object]) -> None:
    """Lets the event loop turn until a condition holds; fails after five seconds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (what is waited for may be set by another thread)
            await asyncio.sleep(0.001)


def check_ledger(service: Service) -> None:
    """Nothing inside, nothing lost: every call that started was handled, exactly once."""
    dispatcher = service.model.dispatcher
    assert not dispatcher.inside and not dispatcher.running and not dispatcher.waiting
    started, handled = (
        sum(sample.value for sample in service.samples(f"grpc_server_{name}_total"))
        for name in ("started", "handled")
    )
    assert started == handled
