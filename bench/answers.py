"""Questions whose answers are known: each must be, byte for byte, what the same word got alone.

The answers are learnt beforehand, one word at a time, through gRPC's own client. Requests are made and
responses compared as bytes, so that a measured call costs the client no message. Knows nothing of load.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import eq

import grpc

from chairlift.v1 import seq2seq_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Seq2SeqService"].full_name
CALL_SECONDS = 10
CANCELLED, EXPIRED = 1, 4  # gRPC's numbers
REFUSED = (8, 14)  # by the service, and by the library below it
PREFIX = struct.Struct(">BL")  # before each message: whether it is compressed, and its length


@dataclass(frozen=True)
class Question:
    """One call: its message and what must come back, both behind gRPC's five bytes."""

    request: bytes
    expected: bytes
    words: int = 1
    is_long: bool = False


class Book:
    """Words and the answers that they get alone, from one server, with the same options for all."""

    def __init__(self, channel: grpc.Channel, options: pb.DecodingOptions | None = None) -> None:
        self._generate: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            f"/{SERVICE}/Generate"
        )
        self._options = options
        self._alone: dict[str, pb.GenerateResponse] = {}

    def learn(self, words: Iterable[str]) -> None:
        """Asks each word alone, one after the other. Raises grpc.RpcError."""
        for word in words:
            request = pb.GenerateRequest(inputs=[word], options=self._options).SerializeToString()
            self._alone[word] = pb.GenerateResponse.FromString(self._generate(request, timeout=CALL_SECONDS))

    def text(self, word: str) -> str:
        """The best answer to a word that was learnt."""
        return self._alone[word].results[0].generation.hypotheses[0].text

    def question(self, *words: str, is_long: bool = False, priority: int = 0) -> Question:
        """A Generate call for words that were learnt."""
        first = self._alone[words[0]]
        results = [self._alone[word].results[0] for word in words]
        expected = pb.GenerateResponse(model=first.model, results=results).SerializeToString()
        request = pb.GenerateRequest(inputs=words, options=self._options, priority=priority)
        return Question(framed(request.SerializeToString()), framed(expected), len(words), is_long)

    def stream_question(self, word: str) -> Question:
        """A GenerateStream call for a word that was learnt. Expected is the result, its last message."""
        alone = self._alone[word]
        ended = pb.StreamResult(model=alone.model, generation=alone.results[0].generation)
        expected = pb.GenerateStreamResponse(result=ended).SerializeToString()
        request = pb.GenerateStreamRequest(input=word, options=self._options).SerializeToString()
        return Question(framed(request), framed(expected))


@dataclass
class Marks:
    """What came back. `compared` and `wrong` count words; `failed` counts calls by gRPC's number."""

    compared: int = 0
    wrong: int = 0
    failed: Counter[int] = field(default_factory=Counter)

    def mark(self, question: Question, status: int, data: bytes) -> None:
        """A call that ended with a status (-1: cut off) and these messages."""
        if status:
            self.failed[status] += 1
            return
        self.compared += question.words
        if data != question.expected:
            self.differ(question, data)

    def differ(self, question: Question, data: bytes) -> None:
        """A Generate call whose answer is another, byte for byte."""
        self.wrong += differences(question.expected, data)

    def mark_overloaded(self, question: Question, status: int, data: bytes) -> None:
        """The same for a server that is asked for more than it can do, and may say so."""
        if status not in (CANCELLED, EXPIRED, *REFUSED):
            self.mark(question, status, data)

    def mark_stream(self, question: Question, status: int, data: bytes) -> None:
        """The same for a stream: the result must be right, and the chunks must add up to its text."""
        if status:
            self.failed[status] += 1
            return
        self.compared += 1
        events = [pb.GenerateStreamResponse.FromString(message) for message in messages(data)]
        text = "".join(event.tokens.text for event in events)
        right = pb.GenerateStreamResponse.FromString(question.expected[PREFIX.size :])
        whole = right.result.generation.hypotheses[0].text
        self.wrong += not events or events[-1] != right or text != whole


@dataclass
class CloseMarks(Marks):
    """The same where scores depend on the company in their last digits, as on a GPU: they may differ.

    `score_difference`: the largest, in natural-log units. Both counts are whole after `settle`: to compare
    takes longer than a call that is measured may.
    """

    score_difference: float = 0.0
    _unsettled: list[tuple[bytes, bytes]] = field(default_factory=list)  # what was expected, what came

    def differ(self, question: Question, data: bytes) -> None:
        """Kept for later."""
        self._unsettled.append((question.expected, data))

    def settle(self) -> None:
        """Compares everything but scores."""
        while self._unsettled:
            self.wrong += differences(*self._unsettled.pop(), self._is_close)

    def _is_close(self, right: pb.Result, given: pb.Result) -> bool:
        if _without_scores(right) != _without_scores(given):
            return False
        pairs = zip(right.generation.hypotheses, given.generation.hypotheses, strict=True)
        self.score_difference = max([self.score_difference, *(abs(a.score - b.score) for a, b in pairs)])
        return True


def _without_scores(result: pb.Result) -> pb.Result:
    found = pb.Result()
    found.CopyFrom(result)
    for hypothesis in found.generation.hypotheses:
        for name in ("score", "normalised_score", "log_probabilities", "confidence"):
            hypothesis.ClearField(name)
    return found


def framed(message: bytes) -> bytes:
    """A message as gRPC sends it: not compressed, its length before it."""
    return PREFIX.pack(0, len(message)) + message


def messages(data: bytes) -> list[bytes]:
    """The messages of a response."""
    found, place = [], 0
    while place < len(data):
        _, size = PREFIX.unpack_from(data, place)
        place += PREFIX.size + size
        found.append(data[place - size : place])
    return found


def differences(expected: bytes, data: bytes, is_same: Callable[[pb.Result, pb.Result], bool] = eq) -> int:
    """How many words of a Generate call got another answer; all where the model or their number differs."""
    right = pb.GenerateResponse.FromString(expected[PREFIX.size :])
    found = messages(data)
    given = pb.GenerateResponse.FromString(found[0]) if len(found) == 1 else pb.GenerateResponse()
    if right.model != given.model or len(right.results) != len(given.results):
        return len(right.results)
    return sum(not is_same(a, b) for a, b in zip(right.results, given.results, strict=True))
