"""A real server in process, on a free port of 127.0.0.1, whose model spells inputs backwards."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from chairlift import AsyncClient, Client
from chairlift.v1 import seq2seq_pb2 as pb
from chairlift.v1 import seq2seq_pb2_grpc as rpc

REFERENCE = pb.ModelReference(name="backwards", version=3, digest="ab" * 32)


class Backwards(rpc.Seq2SeqServiceServicer):
    """Answers `snow` with `w o n s`. Inputs in capitals are orders to fail; `calls` counts attempts."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.max_inputs = 1024
        self.request: Message | None = None  # the last one
        self.open_calls = 0
        self.most_open_calls = 0
        self.waiting = threading.Event()
        self.hung_up = threading.Event()

    async def Generate(self, request, context):  # noqa: N802
        order, self.request = request.inputs[0], request
        self.calls[order] += 1
        self.open_calls += 1
        self.most_open_calls = max(self.most_open_calls, self.open_calls)
        try:
            await asyncio.sleep(0)
            await self._obey(order, context)
            if list(request.inputs) == ["BAD"]:
                await fail(context, "INVALID_ARGUMENT", "inputs[0]: bad", violation("inputs[0]", "bad"))
            if request.model.name not in ("", "backwards"):
                await fail(context, "NOT_FOUND", f"no model {request.model.name}")
            results = [result(text, index, request) for index, text in enumerate(request.inputs)]
            return pb.GenerateResponse(model=REFERENCE, results=results[: -1 if order == "SHORT" else None])
        finally:
            self.open_calls -= 1

    async def GenerateStream(self, request, context):  # noqa: N802
        self.calls[request.input] += 1
        self.request = request
        await self._obey(request.input, context)
        if request.input == "BAD":
            await fail(context, "INVALID_ARGUMENT", "input: bad", violation("input", "bad"))
        answer = generation(request.input, request.options)
        try:
            for index, letter in enumerate(answer.hypotheses[0].text.split()):
                text = " " * (index > 0) + letter
                chunk = pb.TokenChunk(
                    index=index + (request.input == "GAP"),
                    token_ids=[ord(letter)],
                    text=text,
                    log_probabilities=[-0.5],
                )
                await context.write(pb.GenerateStreamResponse(tokens=chunk))
                if request.input == "BREAK":
                    await fail(context, "INTERNAL", "error 7")
                if request.input == "WAIT":
                    await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.hung_up.set()
            raise
        if request.input != "CUT":
            last = pb.StreamResult(model=REFERENCE, generation=answer)
            await context.write(pb.GenerateStreamResponse(result=last))

    async def Score(self, request, context):  # noqa: N802
        self.request = request
        await self._obey(request.inputs[0], context)
        if list(request.targets) == ["BAD"]:
            await fail(context, "INVALID_ARGUMENT", "targets[0]: bad", violation("targets[0]", "bad"))
        pairs = zip(request.inputs, request.targets, strict=True)
        results = [score_result(*pair, index) for index, pair in enumerate(pairs)]
        if request.inputs[0] == "SHORT":
            results.pop()
        return pb.ScoreResponse(model=REFERENCE, results=results)

    async def ListModels(self, request, context):  # noqa: N802
        return pb.ListModelsResponse(models=[model()])

    async def GetModel(self, request, context):  # noqa: N802
        if request.model.name not in ("", "backwards"):
            await fail(context, "NOT_FOUND", f"no model {request.model.name}")
        described = model()
        described.limits.max_inputs = self.max_inputs
        described.source_tokens.extend(["<pad>", "<unk>"])
        return pb.GetModelResponse(model=described)

    async def _obey(self, order: str, context) -> None:
        if order == "TWICE" and self.calls[order] <= 2:
            await fail(context, "RESOURCE_EXHAUSTED", "full", retry(0.001), pushback_ms=1)
        if order == "FULL":
            await fail(context, "RESOURCE_EXHAUSTED", "full", retry(0.25), pushback_ms=1)
        if order == "BUSY" and self.calls[order] <= 4:
            await fail(context, "RESOURCE_EXHAUSTED", "full", retry(0.001), pushback_ms=1)
        if order == "SLOW":
            self.waiting.set()
            await asyncio.get_running_loop().create_future()
        if order in grpc.StatusCode.__members__:
            await fail(context, order, f"told to: {order}")


async def fail(context, code: str, text: str, *details: Message, pushback_ms: int | None = None) -> None:
    """Ends the call with a status, its details and the delay before another attempt."""
    status = Status(code=grpc.StatusCode[code].value[0], message=text)
    for detail in details:
        status.details.append(any_pb2.Any())
        status.details[-1].Pack(detail)
    trailers = tuple(rpc_status.to_status(status).trailing_metadata)
    if pushback_ms is not None:
        trailers += (("grpc-retry-pushback-ms", str(pushback_ms)),)
    await context.abort(grpc.StatusCode[code], text, trailers)


def violation(field: str, description: str) -> BadRequest:
    return BadRequest(field_violations=[BadRequest.FieldViolation(field=field, description=description)])


def retry(seconds: float) -> RetryInfo:
    return RetryInfo(retry_delay=Duration(nanos=round(seconds * 1e9)))


def result(text: str, index: int, request: pb.GenerateRequest) -> pb.Result:
    field = f"inputs[{index}]"
    if text == "BAD":
        return pb.Result(error=pb.Error(code=3, message=f"{field}: bad", field=field))
    if text == "LARGE":
        return pb.Result(generation=pb.Generation(hypotheses=[pb.Hypothesis(text="L" * (5 << 20))]))
    return pb.Result(generation=generation(text, request.options))


def generation(text: str, options: pb.DecodingOptions) -> pb.Generation:
    """The n_best hypotheses, each a letter shorter than the one before."""
    letters = text[::-1][: options.max_length or None]
    hypotheses = [hypothesis(letters[: len(letters) - i], text, options) for i in range(options.n_best or 1)]
    return pb.Generation(hypotheses=hypotheses, source_length=len(text), unknown_tokens=text.count("?"))


def hypothesis(letters: str, text: str, options: pb.DecodingOptions) -> pb.Hypothesis:
    alternative = pb.Alternatives(token_ids=[7], log_probabilities=[-0.25])
    return pb.Hypothesis(
        text=" ".join(letters),
        token_ids=map(ord, letters),
        score=-0.5 * len(letters),
        finish_reason=pb.FINISH_REASON_EOS if len(letters) == len(text) else pb.FINISH_REASON_LENGTH,
        normalised_score=-0.125,
        log_probabilities=[-0.5] * len(letters) if options.log_probabilities else (),
        alternatives=[alternative] * len(letters) if options.alternatives else (),
        alignments=alignments(letters, text) if options.alignments else (),
        confidence=0.75 if text == "sure" else None,
    )


def alignments(letters: str, text: str) -> list[pb.Alignment]:
    """Each letter looks at where it stands, and less at all the others; <E> at all alike."""
    others = 0.25 / max(1, len(text) - 1)
    rows = [[0.75 if letter == looked else others for looked in text] for letter in letters]
    end = [[1 / len(text)] * len(text)] * (len(letters) == len(text))
    return [pb.Alignment(weights=row) for row in rows + end]


def score_result(text: str, target: str, index: int) -> pb.ScoreResult:
    if target == "BAD":
        field = f"targets[{index}]"
        return pb.ScoreResult(error=pb.Error(code=3, message=f"{field}: bad", field=field))
    ids = [ord(letter) for letter in target.split()]
    scores = [-0.5] * (len(ids) + 1)
    return pb.ScoreResult(
        score=pb.TargetScore(
            score=sum(scores),
            token_ids=ids,
            log_probabilities=scores,
            source_length=len(text),
            unknown_tokens=text.count("?"),
        )
    )


def model() -> pb.Model:
    return pb.Model(
        reference=REFERENCE,
        ready=True,
        is_default=True,
        card=pb.ModelCard(
            title="Spells backwards",
            scores=[pb.Score(dataset="test", metric="WER", value=1.5, decoding="greedy")],
        ),
        limits=pb.Limits(max_source_length=64, max_target_length=64, max_inputs=1024, max_beam_size=8),
        profiles=["fp32"],
        profile="fp32",
        device="cpu",
        architecture=pb.Architecture(cell="lstm", encoder_layers=2, parameters=2**33),
    )


class RunningServer:
    """The server on a thread of its own, so that blocking clients and other processes can call it."""

    def __init__(self) -> None:
        self.servicer = Backwards()
        self.address = ""
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def start(self) -> None:
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        rpc.add_Seq2SeqServiceServicer_to_server(self.servicer, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        self._started.set()
        await self._stopping.wait()
        await server.stop(0)


@pytest.fixture
def server() -> Iterator[RunningServer]:
    running = RunningServer()
    running.start()
    yield running
    running.stop()


class BlockingAsyncClient:
    """AsyncClient with the face of Client: a loop for each call."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __getattr__(self, name: str):
        async def call(*arguments, **options):
            async with AsyncClient(self._address) as client:
                return await getattr(client, name)(*arguments, **options)

        return lambda *arguments, **options: asyncio.run(call(*arguments, **options))

    def stream(self, text: str, **options):
        async def collect(events: list):
            async with AsyncClient(self._address) as client:
                async for event in client.stream(text, **options):
                    events.append(event)

        events: list = []
        try:
            asyncio.run(collect(events))
        finally:
            yield from events


@pytest.fixture(params=["blocking", "asyncio"])
def client(request, server):
    if request.param == "asyncio":
        yield BlockingAsyncClient(server.address)
    else:
        with Client(server.address) as blocking:
            yield blocking
