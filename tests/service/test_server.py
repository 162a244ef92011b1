"""Through the real wire: answers, the status contract, hang-ups, deadlines, overload."""

import asyncio
import random

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from chairlift.v1 import seq2seq_pb2 as pb
from service.options import Options
from service.server import SERVICE
from tests.fronts import FRONTS
from tests.service.conftest import BrokenEngine, CountdownEngine, GatedEngine, check_ledger, until
from tests.service.lift import FAR

Code = grpc.StatusCode
METHOD = f"/{SERVICE}/Generate"


@pytest.fixture(params=FRONTS)
def front(request) -> str:
    """Every test of this file, with either front."""
    return request.param


async def refusal(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert len(caught.value.details().encode()) <= 512
    return caught.value


def detail(error: grpc.aio.AioRpcError, kind):
    """The google.rpc detail of a kind."""
    for packed in rpc_status.from_call(error).details:
        if packed.Is(kind.DESCRIPTOR):
            found = kind()
            packed.Unpack(found)
            return found
    raise AssertionError(f"no {kind.__name__} in {error}")


async def test_golden_answers_over_the_wire(start, bundle):
    service = await start()
    cases = bundle.golden.cases
    for case, result in zip(cases, (await service.ask(*(c.text for c in cases))).results, strict=True):
        best = result.generation.hypotheses[0]
        ended = case.target_ids[-1] == 0
        assert tuple(best.token_ids) == case.target_ids[: len(case.target_ids) - ended]
        assert best.score == pytest.approx(case.score, abs=1e-4)
        assert best.finish_reason == (pb.FINISH_REASON_EOS if ended else pb.FINISH_REASON_LENGTH)
        assert result.generation.source_length == len(case.source_ids)
        assert result.generation.unknown_tokens == case.source_ids.count(1)


async def test_callers_side_by_side_get_what_they_get_alone(start):
    service = await start()
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefghij'", k=chance.randint(1, 20))) for _ in range(60)]
    alone = {word: (await service.ask(word)).results[0] for word in words}

    async def caller(seed: int) -> int:
        order = random.Random(seed).choices(words, k=12)
        return sum([(await service.ask(word)).results[0] != alone[word] for word in order])

    assert sum(await asyncio.gather(*(caller(seed) for seed in range(20)))) == 0
    rows = service.metric("chairlift_step_rows_sum") / service.metric("chairlift_step_rows_count")
    assert rows > 1, "nobody shared a step: the test proved nothing"


@pytest.mark.parametrize(("characters", "least", "most"), [(16_384, 20, 30), (10**9, 0, 5)])
async def test_others_get_their_turns_while_much_is_tokenised(start, monkeypatch, characters, least, most):
    """With a negative control that does it all at once. 360,000 characters, and no input that is decoded."""
    monkeypatch.setattr("service.models.TURN_CHARACTERS", characters)
    service = await start()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await service.model.generate(["abc" * 300] * 400, Options(12), FAR)
    task.cancel()
    assert least <= turns <= most


async def test_one_bad_input_among_many_harms_no_other(start):
    service = await start()
    response = await service.ask("abc", "", "x\0y", "a" * 25, "abc")
    kinds = [result.WhichOneof("outcome") for result in response.results]
    assert kinds == ["generation", "error", "error", "error", "generation"]
    assert response.results[0] == response.results[4]
    assert [r.error.field for r in response.results[1:4]] == ["inputs[1]", "inputs[2]", "inputs[3]"]
    assert {r.error.code for r in response.results[1:4]} == {Code.INVALID_ARGUMENT.value[0]}


BAD = {
    "no-inputs": (pb.GenerateRequest(), "inputs", "0 inputs; 1 to 1024"),
    "too-many": (pb.GenerateRequest(inputs=["a"] * 1025), "inputs", "1025 inputs; 1 to 1024"),
    "too-many-for-a-flood": (
        pb.GenerateRequest(inputs=["a"] * 100_000, options={"alternatives": 8}),
        "inputs",
        "100000 inputs; 1 to 1024",
    ),
    "empty": (pb.GenerateRequest(inputs=[""]), "inputs[0]", "empty"),
    "blank": (pb.GenerateRequest(inputs=["  \u00a0 "]), "inputs[0]", "empty"),
    "nul": (pb.GenerateRequest(inputs=["a\0b"]), "inputs[0]", "U+0000 at 1"),
    "newline": (pb.GenerateRequest(inputs=["a\nb"]), "inputs[0]", "U+000A"),
    "too-long": (pb.GenerateRequest(inputs=["b" * 25]), "inputs[0]", "25 tokens; at most 24"),
    "far-too-long": (
        pb.GenerateRequest(inputs=["b" * 100_000]),
        "inputs[0]",
        "100000 characters; at most 24",
    ),
    "marks": (pb.GenerateRequest(inputs=["a" + "\u0301" * 33]), "inputs[0]", "combining marks"),
    "negative": (
        pb.GenerateRequest(inputs=["a"], options={"max_length": -1}),
        "options.max_length",
        "-1; 0 to 12",
    ),
    "over": (
        pb.GenerateRequest(inputs=["a"], options={"max_length": 13}),
        "options.max_length",
        "13; 0 to 12",
    ),
    "huge": (
        pb.GenerateRequest(inputs=["a"], options={"max_length": 2**31 - 1}),
        "options.max_length",
        "0 to 12",
    ),
    "path": (pb.GenerateRequest(inputs=["a"], model={"name": "../etc"}), "model.name", "not a name"),
    "upper-case": (pb.GenerateRequest(inputs=["a"], model={"name": "A"}), "model.name", "lower-case"),
    "version": (pb.GenerateRequest(inputs=["a"], model={"version": -1}), "model.version", "-1"),
}


@pytest.mark.parametrize(("request_", "field", "says"), BAD.values(), ids=BAD)
async def test_bad_requests_name_the_field(start, request_, field, says):
    service = await start()
    error = await refusal(service.stub.Generate(request_))
    assert error.code() is Code.INVALID_ARGUMENT
    (violation,) = detail(error, BadRequest).field_violations
    assert violation.field == field and says in violation.description
    assert "bbb" not in error.details()  # an input is never said back


@pytest.mark.parametrize("model", [{"name": "nobody"}, {"version": 7}], ids=["name", "version"])
async def test_unknown_models_are_not_found(start, model):
    service = await start()
    error = await refusal(service.stub.Generate(pb.GenerateRequest(inputs=["a"], model=model)))
    assert error.code() is Code.NOT_FOUND


@pytest.mark.parametrize(
    "data", [b"\x12\x02\xff\xfe", b"\xff\xff\xff", b"\x12\xff"], ids=["utf-8", "tag", "cut"]
)
async def test_what_does_not_parse_is_the_callers_fault(start, data):
    service = await start()
    error = await refusal(service.channel.unary_unary(METHOD)(data))
    assert error.code() is Code.INVALID_ARGUMENT
    assert error.details() == "not a message of this method, or text that is not UTF-8"


async def test_random_bytes_never_get_unknown_or_internal(start):
    service = await start()
    chance = random.Random(7)
    call = service.channel.unary_unary(METHOD)
    for _ in range(300):
        try:
            await call(chance.randbytes(chance.randint(0, 40)))
        except grpc.aio.AioRpcError as error:
            assert error.code() in (Code.INVALID_ARGUMENT, Code.NOT_FOUND), error


async def test_unknown_tokens_are_counted(start):
    service = await start()
    (result,) = (await service.ask("a\u2603b\u2603")).results
    assert result.generation.unknown_tokens == 2


async def test_max_length_cuts(start):
    service = await start(CountdownEngine())
    (result,) = (await service.ask("t", max_length=2)).results
    best = result.generation.hypotheses[0]
    assert len(best.token_ids) == 2 and best.finish_reason == pb.FINISH_REASON_LENGTH


async def test_a_stream_adds_up_to_the_answer(start):
    service = await start()
    for word in ("a", "chairlift", "zz'zz"):
        (result,) = (await service.ask(word)).results
        ids, text, log_probabilities, ended = [], "", [], 0
        async for message in service.stub.GenerateStream(pb.GenerateStreamRequest(input=word)):
            assert not ended
            if message.HasField("result"):
                ended += 1
                assert message.result.generation == result.generation
                continue
            assert message.tokens.index == len(ids)
            ids += message.tokens.token_ids
            text += message.tokens.text
            log_probabilities += message.tokens.log_probabilities
        best = result.generation.hypotheses[0]
        assert ended == 1 and ids == list(best.token_ids) and text == best.text
        assert len(log_probabilities) == len(ids)


async def test_a_stream_sends_tokens_before_the_end(start):
    engine = GatedEngine()
    service = await start(engine)
    stream = service.stub.GenerateStream(pb.GenerateStreamRequest(input="t"))
    engine.let_go()
    first = await stream.read()  # the engine is held before its second step
    assert first.tokens.index == 0 and len(first.tokens.token_ids) == 1
    engine.open()
    last = first
    while (message := await stream.read()) is not grpc.aio.EOF:
        last = message
    assert last.HasField("result")


async def test_models_are_described(start, bundle):
    service = await start()
    (listed,) = (await service.stub.ListModels(pb.ListModelsRequest())).models
    model = (await service.stub.GetModel(pb.GetModelRequest())).model
    assert listed.reference.digest == model.reference.digest == bundle.digest
    assert not listed.source_tokens and tuple(model.target_tokens) == bundle.target.tokens
    assert model.is_default and model.ready and list(model.profiles) == ["int8", "fp32"]
    assert model.profile == "fp32"
    assert model.limits == pb.Limits(
        max_source_length=24, max_target_length=12, max_inputs=1024, max_beam_size=8
    )


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
    assert detail(error, RetryInfo).retry_delay.ToMilliseconds() >= 1
    assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1
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


async def test_health_and_reflection(start):
    service = await start(reflection=True)
    check = health_pb2_grpc.HealthStub(service.channel).Check
    answer = await check(health_pb2.HealthCheckRequest(service=SERVICE))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert (await refusal(check(health_pb2.HealthCheckRequest(service="no")))).code() is Code.NOT_FOUND
    stub = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    async for reply in stub.ServerReflectionInfo(requests):
        assert SERVICE in {found.name for found in reply.list_services_response.service}


async def test_reflection_is_off_unless_asked_for(start):
    service = await start()
    call = service.channel.unary_unary("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    assert (await refusal(call(b""))).code() is Code.UNIMPLEMENTED


async def test_compressed_and_oversized_messages_are_refused(start):
    service = await start()
    request = pb.GenerateRequest(inputs=["a" * 1000])
    error = await refusal(service.stub.Generate(request, compression=grpc.Compression.Gzip))
    assert error.code() is Code.UNIMPLEMENTED
    error = await refusal(service.channel.unary_unary(METHOD)(b"\x12" * (2 << 20)))
    assert error.code() is Code.RESOURCE_EXHAUSTED


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
