"""How calls end that are not just answered: hang-ups, deadlines, overload, faults of ours, a drain."""

import asyncio
import random

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chairlift.v1 import seq2seq_pb2 as pb
from service.server import SERVICE
from tests.fronts import FRONTS
from tests.service.conftest import BrokenEngine, CountdownEngine, GatedEngine, check_ledger, until
from tests.service.refusals import detail, refusal

Code = grpc.StatusCode


@pytest.fixture(params=FRONTS)
def front(request) -> str:
    """Every test of this file, with either front."""
    return request.param


async def test_a_hang_up_frees_the_row_within_a_step(start):
    engine = GatedEngine(rows=1)
    service = await start(engine)
    call = service.stub.Generate(pb.GenerateRequest(inputs=["t"]))
    await asyncio.to_thread(engine.entered.acquire)
    queued = service.stub.Generate(pb.GenerateRequest(inputs=["b"]))
    call.cancel()
    await until(lambda: service.metric("grpc_server_handled_total", **labels("Canceled")) == 1)
    engine.open()
    assert len((await queued).results) == 1
    assert service.metric("chairlift_sequences_finished_total", reason="cancelled") == 1
    assert len(engine.counts) < 10  # t alone would have taken 12


async def test_a_stream_that_is_hung_up_frees_its_row(start):
    engine = GatedEngine()
    service = await start(engine)
    stream = service.stub.GenerateStream(pb.GenerateStreamRequest(input="t"))
    engine.let_go()
    await stream.read()
    stream.cancel()
    method = {**labels("Canceled"), "grpc_type": "server_stream", "grpc_method": "GenerateStream"}
    await until(lambda: service.metric("grpc_server_handled_total", **method) == 1)
    engine.open()
    await until(lambda: service.metric("chairlift_sequences_finished_total", reason="cancelled") == 1)


def labels(code: str) -> dict[str, str]:
    return {
        "grpc_type": "unary",
        "grpc_service": SERVICE,
        "grpc_method": "Generate",
        "grpc_code": code,
    }


async def test_deadline_in_the_queue_and_while_decoding(start):
    engine = GatedEngine(rows=1)
    service = await start(engine)
    running = asyncio.create_task(refusal(service.ask("t", seconds=0.3)))
    await asyncio.to_thread(engine.entered.acquire)
    queued = asyncio.create_task(refusal(service.ask("t", seconds=0.3)))
    assert (await running).code() is (await queued).code() is Code.DEADLINE_EXCEEDED
    engine.open()
    assert len(await service.texts("a")) == 1


async def test_the_servers_own_longest_time_ends_a_call_without_deadline(start):
    engine = GatedEngine()
    service = await start(engine, max_request_seconds=0.05)
    call = asyncio.create_task(refusal(service.stub.Generate(pb.GenerateRequest(inputs=["t"]))))
    await asyncio.to_thread(engine.entered.acquire)
    await asyncio.sleep(0.06)
    engine.open()
    assert (await call).code() is Code.DEADLINE_EXCEEDED


async def test_a_stream_that_nobody_reads_ends_in_time_as_well(start, front, monkeypatch):
    """Its writer is held up, where no deadline of a sequence reaches him."""

    async def flood(*_):
        while True:
            yield pb.GenerateStreamResponse(tokens=pb.TokenChunk(text="x" * 100_000))

    monkeypatch.setattr("service.servicer.Servicer.generate_stream", flood)
    monkeypatch.setattr("service.server.CUT_OFF_SECONDS", 0.1)
    service = await start(max_request_seconds=0.2)
    call = service.stub.GenerateStream(pb.GenerateStreamRequest(input="abc"))
    await call.read()
    ended = {
        "grpc_type": "server_stream",
        "grpc_service": SERVICE,
        "grpc_method": "GenerateStream",
        "grpc_code": "DeadlineExceeded",
    }
    await until(lambda: service.registry.get_sample_value("grpc_server_handled_total", ended))
    if front == "aio":  # cannot cut off who reads nothing: his call lasts as long as his connection
        call.cancel()
        return
    with pytest.raises(grpc.aio.AioRpcError) as cut_off:
        async with asyncio.timeout(5):
            while await call.read():
                pass
    assert cut_off.value.code() in (Code.CANCELLED, Code.DEADLINE_EXCEEDED)


async def test_no_more_inputs_are_allowed_than_may_come_in(start):
    service = await start(CountdownEngine(rows=4), max_rows=4, max_waiting=3)
    assert len((await service.ask(*"bcdbcdb")).results) == 7
    with pytest.raises(grpc.aio.AioRpcError, match="8 inputs; 1 to 7 are allowed") as caught:
        await service.ask(*"bcdbcdbc")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_full_queue_says_when_to_come_back(start):
    engine = GatedEngine(rows=1)
    service = await start(engine, max_waiting=1)
    first = asyncio.create_task(service.ask("a"))
    await asyncio.to_thread(engine.entered.acquire)
    second = asyncio.create_task(service.ask("a"))
    await until(lambda: service.model.dispatcher.waiting)
    error = await refusal(service.ask("a"))
    assert error.code() is Code.RESOURCE_EXHAUSTED
    assert detail(error, ErrorInfo).reason == "QUEUE_FULL"
    assert detail(error, RetryInfo).retry_delay.ToMilliseconds() == 10, "nobody can tell yet"
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "10"
    engine.open()
    await asyncio.gather(first, second)
    assert service.metric("chairlift_rejected_total", reason="QUEUE_FULL", bare="yes") == 1


async def test_what_the_engine_throws_stays_inside(start, caplog):
    service = await start(BrokenEngine())
    source = service.bundle.source
    poison = source.tokens[14]
    error = await refusal(service.ask(poison + "c"))
    assert error.code() is Code.INTERNAL
    assert "secret" not in error.details()
    assert len(await service.texts("c")) == 1


async def test_what_a_handler_throws_gets_an_id_and_nothing_else(start, monkeypatch, caplog):
    service = await start()
    monkeypatch.setattr(service.models, "select", lambda *_: 1 / 0)
    error = await refusal(service.ask("a"))
    assert error.code() is Code.INTERNAL
    error_id = error.details().removeprefix("internal error ")
    assert "division" not in error.details()
    assert any(record.error_id == error_id for record in caplog.records if hasattr(record, "error_id"))


async def test_our_own_cancelled_error_is_not_a_silent_hang(start, monkeypatch):
    service = await start()

    def cancel(*_):
        raise asyncio.CancelledError

    monkeypatch.setattr(service.models, "select", cancel)
    assert (await refusal(service.ask("a", seconds=5))).code() is Code.INTERNAL


async def test_hang_ups_and_deadlines_at_random_leave_the_others_exact(start):
    service = await start()
    chance = random.Random(5)
    words = ["".join(chance.choices("abcdefghij", k=chance.randint(1, 20))) for _ in range(30)]
    alone = {word: (await service.ask(word)).results[0] for word in words}

    async def one(seed: int) -> bool:
        own = random.Random(seed)
        word = own.choice(words)
        call = service.stub.Generate(
            pb.GenerateRequest(inputs=[word]), timeout=own.choice((10, 10, 0.002, 0.01))
        )
        if own.random() < 0.3:
            await asyncio.sleep(own.random() * 0.02)
            call.cancel()
        try:
            return (await call).results[0] == alone[word]
        except grpc.aio.AioRpcError as error:
            return error.code() in (Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED)
        except asyncio.CancelledError:
            return True

    assert all(await asyncio.gather(*(one(seed) for seed in range(400))))
    await until(lambda: not service.metric("chairlift_rows_in_use"))
    assert not service.metric("chairlift_sequences_waiting")


async def test_draining_refuses_newcomers_and_finishes_those_inside(start):
    engine = GatedEngine()
    service = await start(engine)
    inside = asyncio.create_task(service.ask("c"))
    await asyncio.to_thread(engine.entered.acquire)
    await service.server.say_not_serving()
    check = health_pb2_grpc.HealthStub(service.channel).Check
    for name in ("", SERVICE):
        answer = await check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    service.server.refuse()
    error = await refusal(service.ask("a"))
    assert error.code() is Code.UNAVAILABLE
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"]
    engine.open()
    assert len((await inside).results) == 1


async def test_leftovers_of_a_drain_get_unavailable(start):
    engine = GatedEngine(rows=1)
    service = await start(engine)
    calls = [asyncio.create_task(refusal(service.ask("t"))) for _ in range(3)]
    await asyncio.to_thread(engine.entered.acquire)
    await until(lambda: service.model.dispatcher.waiting == 2)
    service.model.dispatcher.abort()
    engine.open()
    assert {(await call).code() for call in calls} == {Code.UNAVAILABLE}


async def test_a_call_that_cannot_end_does_not_hold_up_the_stop(start, monkeypatch):
    monkeypatch.setattr("service.server.CUT_OFF_SECONDS", 0.05)
    engine = GatedEngine()
    service = await start(engine)
    stuck = asyncio.create_task(refusal(service.ask("t")))
    await asyncio.to_thread(engine.entered.acquire)
    service.server.refuse()
    async with asyncio.timeout(5):
        await service.server.stop()
    assert (await stuck).code() in (Code.UNAVAILABLE, Code.CANCELLED)
    engine.open()


async def test_the_ledger_sees_a_call_that_is_not_counted(start):
    """Negative control of the check that runs after every test here."""
    service = await start()
    await service.ask("a")
    check_ledger(service)
    service.server._metrics.started.labels("unary", SERVICE, "Generate").inc()
    with pytest.raises(AssertionError):
        check_ledger(service)
    service.server._metrics.handled.labels("unary", SERVICE, "Generate", "OK").inc()


async def test_a_flood_on_one_connection_is_refused_by_our_queue_alone(start, nobody_is_held):
    """The library would reset or cancel calls long before, at its own defaults."""
    engine = GatedEngine()
    service = await start(engine, max_waiting=8)
    asked = [asyncio.ensure_future(service.ask("abc", seconds=60)) for _ in range(3000)]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)  # it is refused: no step has ended
    engine.open()
    ended = await asyncio.gather(*asked, return_exceptions=True)
    codes = {error.code() if isinstance(error, grpc.aio.AioRpcError) else Code.OK for error in ended}
    assert codes == {Code.OK, Code.RESOURCE_EXHAUSTED}
