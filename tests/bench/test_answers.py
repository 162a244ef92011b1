"""Answers that differ are counted, over the real wire."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from bench.answers import SERVICE, Book, CloseMarks, Marks, Question, differences, framed, messages
from bench.http2 import Connection
from chairlift.v1 import seq2seq_pb2 as pb
from chairlift.v1 import seq2seq_pb2_grpc


class Speller(seq2seq_pb2_grpc.Seq2SeqServiceServicer):
    """Spells words. Once it is `drunk`, it spells those with an x differently; `shut`, it refuses."""

    drunk = shut = False

    def result(self, word: str) -> pb.Result:
        text = " ".join(word) + ("?" if self.drunk and "x" in word else "")
        return pb.Result(generation=pb.Generation(hypotheses=[pb.Hypothesis(text=text)]))

    def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:  # noqa: N802
        if self.shut:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return pb.GenerateResponse(results=[self.result(word) for word in request.inputs])

    def GenerateStream(self, request: pb.GenerateStreamRequest, _: Any) -> Any:  # noqa: N802
        generation = self.result(request.input).generation
        for letter in generation.hypotheses[0].text:
            yield pb.GenerateStreamResponse(tokens=pb.TokenChunk(text=letter))
        ended = pb.StreamResult(model=pb.ModelReference(), generation=generation)
        yield pb.GenerateStreamResponse(result=ended)


@pytest.fixture
def speller() -> Iterator[tuple[Speller, str]]:
    servicer = Speller()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        seq2seq_pb2_grpc.add_Seq2SeqServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield servicer, f"127.0.0.1:{port}"
        server.stop(0).wait()


def marks_of(address: str, servicer: Speller, drunk: bool = False, shut: bool = False) -> Marks:
    """Learns sober, then asks two words, alone, together and as streams."""
    with grpc.insecure_channel(address) as channel:
        book = Book(channel)
        book.learn(["ab", "xy"])
    servicer.drunk, servicer.shut = drunk, shut
    marks = Marks()
    calls = {"Generate": [["ab"], ["xy"], ["ab", "xy", "ab"]], "GenerateStream": [["ab"], ["xy"]]}
    for method, asked in calls.items():
        with Connection(address, f"/{SERVICE}/{method}") as connection:
            for words in asked:
                stream = method == "GenerateStream"
                connection.send(book.stream_question(*words) if stream else book.question(*words))
            while len(connection):
                for call in connection.receive():
                    (marks.mark_stream if stream else marks.mark)(call.question, call.status, call.data)
    return marks


@pytest.mark.parametrize(("drunk", "wrong"), [(False, 0), (True, 3)])
def test_a_changed_answer_is_counted(speller: tuple[Speller, str], drunk: bool, wrong: int) -> None:
    servicer, address = speller
    marks = marks_of(address, servicer, drunk=drunk)
    assert (marks.compared, marks.wrong) == (7, wrong)
    assert not marks.failed


def test_a_refused_call_is_counted_and_not_compared(speller: tuple[Speller, str]) -> None:
    servicer, address = speller
    marks = marks_of(address, servicer, shut=True)
    assert marks.failed == {8: 3}
    assert marks.compared == 2  # the streams


def test_the_service_is_called_by_its_name() -> None:
    assert SERVICE == "chairlift.v1.Seq2SeqService"


def test_every_word_of_another_model_differs() -> None:
    right = pb.GenerateResponse(results=[Speller().result("ab"), Speller().result("xy")])
    other = pb.GenerateResponse(model=pb.ModelReference(version=2), results=right.results)
    short = pb.GenerateResponse(results=right.results[:1])
    expected = framed(right.SerializeToString())
    for response, wrong in ((right, 0), (other, 2), (short, 2)):
        assert differences(expected, framed(response.SerializeToString())) == wrong
    assert differences(expected, b"") == 2
    assert differences(expected, expected + expected) == 2


@pytest.mark.parametrize(
    ("text", "tokens", "wrong"), [("a b", [1, 2], 0), ("a c", [1, 2], 1), ("a b", [1, 3], 1)]
)
def test_scores_alone_may_differ_where_marks_are_close(text: str, tokens: list[int], wrong: int) -> None:
    def answer(text: str, tokens: list[int], score: float) -> bytes:
        best = pb.Hypothesis(
            text=text, token_ids=tokens, score=score, normalised_score=score, confidence=-score
        )
        results = [Speller().result("ab"), pb.Result(generation=pb.Generation(hypotheses=[best]))]
        return framed(pb.GenerateResponse(results=results).SerializeToString())

    question = Question(b"", answer("a b", [1, 2], -0.5), words=2)
    close, exact = CloseMarks(), Marks()
    for marks in (close, exact):
        marks.mark(question, 0, answer(text, tokens, -0.75))
    close.settle()
    assert (close.compared, close.wrong, close.score_difference) == (2, wrong, 0.0 if wrong else 0.25)
    assert exact.wrong == 1


def test_messages_are_cut_where_they_end() -> None:
    assert messages(framed(b"a") + framed(b"") + framed(b"bc")) == [b"a", b"", b"bc"]
