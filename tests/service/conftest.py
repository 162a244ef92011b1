"""Engines of ten lines, and a real server on port 0 around whichever engine a test wants."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from bundle.reader import Bundle, read_bundle
from chairlift.v1 import seq2seq_pb2 as pb
from chairlift.v1.seq2seq_pb2_grpc import Seq2SeqServiceStub
from service.engine import Engine
from service.loading import start_model
from service.metrics import Metrics
from service.models import Model, Models
from service.server import Server
from service.servicer import Servicer
from service.settings import Settings


class CountdownEngine:
    """Answers a source that ends in id n with the tokens n, n-1, .. 1, then <E>."""

    end_id = 0

    def __init__(self, rows: int = 4) -> None:
        self.rows = rows
        self.left = [0] * rows
        self.encoded: list[list[int]] = []
        self.steps: list[int] = []

    def encode(self, sources, first_row):
        for row, source in enumerate(sources, first_row):
            self.left[row] = source[-1]
            self.encoded.append(list(source))

    def step(self, count):
        self.steps.append(count)
        tokens = self.left[:count]
        self.left[:count] = [max(0, left - 1) for left in tokens]
        return tokens, [-0.5] * count

    def move(self, source_row, target_row):
        self.left[target_row] = self.left[source_row]


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

    def encode(self, sources, first_row):
        if any(source[0] == 15 for source in sources):
            raise RuntimeError("a secret of the encoder")
        super().encode(sources, first_row)

    def step(self, count):
        tokens, _ = super().step(count)
        running = self.encoded[-count:]
        if any(source[0] == 14 for source in running):
            raise RuntimeError("a secret of the engine")
        return tokens, [float("nan") if source[0] == 13 else -0.5 for source in running]


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

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value; labels of the model are filled in."""
        model = {"model": self.model.manifest.name, "version": str(self.model.manifest.version)}
        own = name.startswith("chairlift_") and not labels.pop("bare", False)
        return self.registry.get_sample_value(name, {**(model if own else {}), **labels}) or 0.0

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
async def start(bundle: Bundle) -> AsyncIterator[Start]:
    """Starts services; afterwards all must be idle, with every row free and every call counted once."""
    running: list[Service] = []

    async def start_one(engine=None, **options) -> Service:
        settings = Settings(listen="127.0.0.1:0", **{"max_rows": 8, **options})
        registry = CollectorRegistry()
        metrics = Metrics(registry)
        engine = engine or Engine(bundle, settings.max_rows)
        crash = asyncio.Event()
        model = start_model(bundle, engine, "cpu", settings, metrics, crash.set)
        models = Models([model], bundle.manifest.name)
        server = Server(Servicer(models, settings.max_request_seconds), metrics, settings)
        address = await server.start()
        channel = grpc.aio.insecure_channel(address)
        running.append(
            Service(address, channel, Seq2SeqServiceStub(channel), model, models, server, registry, bundle)
        )
        return running[-1]

    yield start_one
    for service in running:
        if isinstance(service.model.scheduler._engine, GatedEngine):
            service.model.scheduler._engine.open()
        await service.channel.close()
        service.server.refuse()
        async with asyncio.timeout(5):
            await service.server.stop()
        await asyncio.to_thread(service.model.scheduler.stop)
        await asyncio.sleep(0)
        check_ledger(service)


async def until(condition: Callable[[], object]) -> None:
    """Lets the event loop turn until a condition holds; fails after five seconds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (what is waited for may be set by another thread)
            await asyncio.sleep(0.001)


def check_ledger(service: Service) -> None:
    """Nothing inside, nothing lost: every call that started was handled, exactly once."""
    scheduler = service.model.scheduler
    assert not scheduler.running and not scheduler.waiting
    samples = [sample for metric in service.registry.collect() for sample in metric.samples]
    started = sum(s.value for s in samples if s.name == "grpc_server_started_total")
    handled = sum(s.value for s in samples if s.name == "grpc_server_handled_total")
    assert started == handled
