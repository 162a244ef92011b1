"""Answers that differ are counted, over the real wire."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from bench.answers import SERVICE, Answers, differences
from chairlift.v1 import seq2seq_pb2 as pb
from chairlift.v1 import seq2seq_pb2_grpc


class Speller(seq2seq_pb2_grpc.Seq2SeqServiceServicer):
    """Spells words. Once it is `drunk`, it spells those with an x differently; `shut`, it refuses."""

    drunk = shut = False

    def result(self, word: str) -> pb.Result:
        text = " ".join(word) + ("?" if self.drunk and "x" in word else "")
        return pb.Result(generation=pb.Generation(hypotheses=[pb.Hypothesis(text=text)]))

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:  # noqa: N802
        if self.shut:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return pb.GenerateResponse(results=[self.result(word) for word in request.inputs])

    async def GenerateStream(self, request: pb.GenerateStreamRequest, _: Any) -> Any:  # noqa: N802
        generation = self.result(request.input).generation
        yield pb.GenerateStreamResponse(tokens=pb.TokenChunk(text=generation.hypotheses[0].text))
        yield pb.GenerateStreamResponse(result=pb.StreamResult(generation=generation))


@asynccontextmanager
async def answers_of(speller: Speller) -> AsyncIterator[Answers]:
    server = grpc.aio.server()
    seq2seq_pb2_grpc.add_Seq2SeqServiceServicer_to_server(speller, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            answers = Answers(channel)
            await answers.learn(["ab", "xy"])
            yield answers
    finally:
        await server.stop(0)


@pytest.mark.parametrize(("drunk", "wrong"), [(False, 0), (True, 3)])
async def test_a_changed_answer_is_counted(drunk: bool, wrong: int) -> None:
    speller = Speller()
    async with answers_of(speller) as answers:
        speller.drunk = drunk
        for words in (["ab"], ["xy"], ["ab", "xy", "ab"]):
            await answers.ask(answers.question(*words))
        await answers.ask_stream("ab")
        await answers.ask_stream("xy")
        assert (answers.compared, answers.wrong) == (7, wrong)
        assert len(answers.first_token_seconds) == 2
        assert not answers.failed


async def test_a_refused_call_is_counted_and_not_compared() -> None:
    speller = Speller()
    async with answers_of(speller) as answers:
        speller.shut = True
        await answers.ask(answers.question("ab"))
        assert answers.failed == {"RESOURCE_EXHAUSTED": 1}
        assert answers.compared == 0


def test_the_service_is_called_by_its_name() -> None:
    assert SERVICE == "chairlift.v1.Seq2SeqService"


def test_every_word_of_another_model_differs() -> None:
    right = pb.GenerateResponse(results=[Speller().result("ab"), Speller().result("xy")])
    other = pb.GenerateResponse(model=pb.ModelReference(version=2), results=right.results)
    short = pb.GenerateResponse(results=right.results[:1])
    assert differences(right.SerializeToString(), right.SerializeToString()) == 0
    assert differences(right.SerializeToString(), other.SerializeToString()) == 2
    assert differences(right.SerializeToString(), short.SerializeToString()) == 2
