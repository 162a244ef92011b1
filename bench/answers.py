"""Calls whose answers are checked: each must be, byte for byte, what the same word got alone.

The client neither builds nor parses messages while it measures: requests are made beforehand and answers
compared as bytes, so that a call costs the client what an echo costs it.
"""

import time
from collections import Counter
from dataclasses import dataclass

import grpc

from chairlift.v1 import seq2seq_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Seq2SeqService"].full_name
CALL_SECONDS = 10


@dataclass(frozen=True)
class Question:
    """One Generate call: its words, its message, and the message that must come back."""

    words: tuple[str, ...]
    request: bytes
    expected: bytes


class Answers:
    """Asks over one channel. `compared` and `wrong` count words; `failed` counts calls by their status."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._generate: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            f"/{SERVICE}/Generate"
        )
        self._stream = channel.unary_stream(
            f"/{SERVICE}/GenerateStream",
            request_serializer=pb.GenerateStreamRequest.SerializeToString,
            response_deserializer=pb.GenerateStreamResponse.FromString,
        )
        self._alone: dict[str, pb.GenerateResponse] = {}
        self.compared = self.wrong = 0
        self.failed: Counter[str] = Counter()
        self.first_token_seconds: list[float] = []  # of every stream

    async def learn(self, words: list[str]) -> None:
        """Asks each word alone, one after the other: the answers that count. Raises AioRpcError."""
        for word in words:
            request = pb.GenerateRequest(inputs=[word]).SerializeToString()
            response = await self._generate(request, timeout=CALL_SECONDS)
            self._alone[word] = pb.GenerateResponse.FromString(response)

    def question(self, *words: str) -> Question:
        """A call for words that were learnt."""
        first = self._alone[words[0]]
        expected = pb.GenerateResponse(
            model=first.model, results=[self._alone[word].results[0] for word in words]
        )
        request = pb.GenerateRequest(inputs=words)
        return Question(words, request.SerializeToString(), expected.SerializeToString())

    async def ask(self, question: Question) -> None:
        """One Generate call."""
        try:
            response = await self._generate(question.request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            self.failed[error.code().name] += 1
            return
        self.compared += len(question.words)
        if response != question.expected:
            self.wrong += differences(question.expected, response)

    async def ask_stream(self, word: str) -> None:
        """One GenerateStream call; notes when its first message came."""
        sent = time.perf_counter()
        first, text, last = 0.0, "", pb.GenerateStreamResponse()
        try:
            async for last in self._stream(pb.GenerateStreamRequest(input=word), timeout=CALL_SECONDS):
                first = first or time.perf_counter() - sent
                text += last.tokens.text
        except grpc.aio.AioRpcError as error:
            self.failed[error.code().name] += 1
            return
        self.first_token_seconds.append(first)
        self.compared += 1
        alone = self._alone[word].results[0].generation
        self.wrong += last.result.generation != alone or text != alone.hypotheses[0].text


def differences(expected: bytes, response: bytes) -> int:
    """How many words of a call got another answer; all of them where the model or their number differs."""
    right, given = pb.GenerateResponse.FromString(expected), pb.GenerateResponse.FromString(response)
    if right.model != given.model or len(right.results) != len(given.results):
        return len(right.results)
    return sum(a != b for a, b in zip(right.results, given.results, strict=True))
