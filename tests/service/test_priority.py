"""A word with priority in a flood of words without, through the real wire. Nothing looks at the clock."""

import asyncio
from collections.abc import Awaitable

from chairlift.v1 import seq2seq_pb2 as pb
from tests.service.conftest import GatedEngine, Service, Start, until

HIGH, LOW = 1, -5
ROWS, FLOOD = 2, 8
STEPS = 3  # of the flood's, whose words take twelve


def ask(service: Service, word: str, priority: int) -> Awaitable[pb.GenerateResponse]:
    return service.stub.Generate(pb.GenerateRequest(inputs=[word], priority=priority), timeout=30)


async def word_in_a_flood(
    service: Service, priority: int
) -> tuple[asyncio.Future[pb.GenerateResponse], list[asyncio.Future[pb.GenerateResponse]]]:
    """One word, behind others that have every row and more; then STEPS steps are let through. The others."""
    flood = [asyncio.ensure_future(ask(service, "t", LOW)) for _ in range(FLOOD)]
    await asyncio.to_thread(service.engine.entered.acquire)
    await until(lambda: service.model.dispatcher.inside == FLOOD)
    word = asyncio.ensure_future(ask(service, "c", priority))
    await until(lambda: service.model.dispatcher.inside == FLOOD + 1)
    await asyncio.sleep(0)  # it is on its way to the engine now
    service.engine.let_go(STEPS)
    return word, flood


async def test_a_word_with_priority_is_answered_within_a_few_steps_of_a_flood(start: Start) -> None:
    engine = GatedEngine(ROWS)
    service = await start(engine)
    word, flood = await word_in_a_flood(service, HIGH)
    answer = await word
    assert answer.results[0].generation.hypotheses[0].text
    assert len(engine.counts) <= STEPS
    assert len(engine.encoded) == ROWS and not any(other.done() for other in flood)
    engine.open()
    await asyncio.gather(*flood)


async def test_the_same_word_without_priority_waits_for_a_row(start: Start) -> None:
    """Control: so many steps are not enough for whoever is no more urgent than the flood."""
    engine = GatedEngine(ROWS)
    service = await start(engine)
    word, flood = await word_in_a_flood(service, LOW)
    for _ in range(STEPS):
        await asyncio.to_thread(engine.entered.acquire)  # the last one before a step that is not let through
    assert len(engine.counts) == STEPS and len(engine.encoded) == ROWS
    assert not word.done() and not any(other.done() for other in flood)
    engine.open()
    answer, *_ = await asyncio.gather(word, *flood)
    assert answer.results[0].generation.hypotheses[0].text
