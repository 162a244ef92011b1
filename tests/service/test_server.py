"""Through the real wire: answers, and what a request may be."""

import asyncio
import random
import time

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from chairlift.v1 import seq2seq_pb2 as pb
from service.options import Options
from service.server import SERVICE
from tests.fronts import FRONTS
from tests.service.conftest import CountdownEngine, GatedEngine
from tests.service.lift import FAR
from tests.service.refusals import detail, refusal

Code = grpc.StatusCode
METHOD = f"/{SERVICE}/Generate"


@pytest.fixture(params=FRONTS)
def front(request) -> str:
    """Every test of this file, with either front."""
    return request.param


async def test_golden_answers_over_the_wire(start, bundle):
    service = await start()
    cases = bundle.golden.cases
    for case, result in zip(cases, (await service.ask(*(c.text for c in cases))).results, strict=True):
        best = result.generation.hypotheses[0]
        ended = case.target_ids[-1] == 0
        assert tuple(best.token_ids) == case.target_ids[: len(case.target_ids) - ended]
        assert best.score == pytest.approx(case.score, abs=1e-4)
        assert best.finish_reason == (pb.FINISH_REASON_EOS if ended else pb.FINISH_REASON_LENGTH)
        assert not (best.log_probabilities or best.alternatives or best.alignments), "nobody asked for those"
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


async def test_a_priority_reaches_the_queue_however_one_asks(start, monkeypatch):
    service = await start()
    seen = []
    submit = service.model.dispatcher.submit

    def look(submissions):
        seen.extend(submission.priority for submission in submissions)
        submit(submissions)

    monkeypatch.setattr(service.model.dispatcher, "submit", look)
    await service.stub.Generate(pb.GenerateRequest(inputs=["abc"], priority=4))
    [_ async for _ in service.stub.GenerateStream(pb.GenerateStreamRequest(input="abc", priority=5))]
    text = service.bundle.target.decode([2])
    await service.stub.Score(pb.ScoreRequest(inputs=["abc"], targets=[text], priority=6))
    assert seen == [4, 5, 6]


async def test_messages_are_counted_and_calls_are_timed(start):
    service = await start()
    began = time.monotonic()
    await service.texts("abc")
    news = [_ async for _ in service.stub.GenerateStream(pb.GenerateStreamRequest(input="abc"))]
    took = time.monotonic() - began
    counted = {
        name: {
            sample.labels["grpc_method"]: sample.value
            for sample in service.samples(f"grpc_server_{name}")
            if sample.value
        }
        for name in ("msg_received_total", "msg_sent_total", "handling_seconds_sum")
    }
    assert counted["msg_received_total"] == {"Generate": 1, "GenerateStream": 1}
    assert counted["msg_sent_total"] == {"Generate": 1, "GenerateStream": len(news)}
    assert 0 < sum(counted["handling_seconds_sum"].values()) < took


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
