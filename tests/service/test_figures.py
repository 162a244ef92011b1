"""Cheap counters and histograms read as the library's own; answers say where they came from."""

import asyncio
import random

import grpc
import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from chairlift.v1 import seq2seq_pb2 as pb
from service.figures import Counter, Histogram
from tests.service.conftest import GatedEngine, until

BUCKETS = (0.01, 0.1, 1)


def test_they_read_as_the_librarys_own():
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counters = (
        Counter("c", "Text.", ("a",), ours),
        prometheus_client.Counter("c", "Text.", ("a",), registry=theirs),
    )
    histograms = (
        Histogram("h", "Text.", ("a",), BUCKETS, ours),
        prometheus_client.Histogram("h", "Text.", ("a",), buckets=BUCKETS, registry=theirs),
    )
    chance = random.Random(1)
    values = [*BUCKETS, *(chance.choice((0.25, 0.5)) ** chance.randint(0, 9) * 4 for _ in range(200))]
    for counter, histogram in zip(counters, histograms, strict=True):
        counter.labels("x").inc()
        counter.labels("x").inc(3)
        for value in values:
            histogram.labels("x").observe(value)
    prometheus_client.disable_created_metrics()
    assert _samples(ours) == _samples(theirs)
    histograms[0].labels("x").observe(0.5)
    assert _samples(ours) != _samples(theirs)


def _samples(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if "_created" not in line)


async def test_a_kept_answer_is_counted_and_is_the_same(start):
    service = await start(single_flight=True, answer_cache=8)
    first, second = [(await service.ask("chair")).results for _ in range(2)]
    assert first == second
    counts = {
        source: service.metric("chairlift_answers_total", source=source) for source in ("decoded", "kept")
    }
    assert counts == {"decoded": 1, "kept": 1}
    assert service.metric("chairlift_answers_kept") == 1


async def test_refused_inputs_are_not_decoded_and_streams_are(start):
    engine = GatedEngine(1)
    service = await start(engine, max_waiting=1)
    inside = [asyncio.ensure_future(service.ask(word)) for word in ("bi", "ci")]
    await until(lambda: service.model.dispatcher.inside == 2)
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError, match="RESOURCE_EXHAUSTED"):
            await service.ask("di")
    engine.open()
    await asyncio.gather(*inside)
    async for _ in service.stub.GenerateStream(pb.GenerateStreamRequest(input="ab")):
        pass
    assert service.metric("chairlift_answers_total", source="decoded") == 3


async def test_without_a_cache_every_answer_is_decoded(start):
    """Negative control."""
    service = await start()
    for _ in range(2):
        await service.ask("chair")
    assert service.metric("chairlift_answers_total", source="decoded") == 2
