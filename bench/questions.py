"""What is asked of one repository's default model: words with known answers, in an order that a seed decides.

Answers are learnt from one server and hold for every other that serves the same bundle.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from random import Random

import grpc

from bench.answers import Book, Question
from bench.words import SEED, choose
from chairlift.v1 import seq2seq_pb2 as pb
from chairlift.v1 import seq2seq_pb2_grpc

WORDS = 2048
LISTS = 64  # different ones of a size
LONG_STEPS = 200
LONG_WORDS = 32
LONG_SHARE = 0.05
SEARCH_WORDS = 256  # decoded by beams, or drawn


class Questions:
    """Asks over a channel of gRPC's own, before anything is measured. Raises grpc.RpcError, ValueError."""

    def __init__(self, address: str, words: Path | None, count: int = WORDS) -> None:
        self._channel = grpc.insecure_channel(address)
        stub = seq2seq_pb2_grpc.Seq2SeqServiceStub(self._channel)
        self.model: pb.Model = stub.GetModel(pb.GetModelRequest()).model
        self.words = choose(words, count, self.model.limits.max_source_length)
        self._book = Book(self._channel)
        self._book.learn(self.words)
        self.single = self.singles()

    def singles(self, priority: int = 0) -> list[Question]:
        """One word a call."""
        return [self._book.question(word, priority=priority) for word in self.words]

    def lists(self, size: int, priority: int = 0) -> list[Question]:
        """Calls of so many words."""
        random = Random(SEED)
        chosen = [random.choices(self.words, k=size) for _ in range(LISTS)]
        return [self._book.question(*words, priority=priority) for words in chosen]

    def streams(self) -> list[Question]:
        """One stream a word."""
        return [self._book.stream_question(word) for word in self.words]

    def beams(self, size: int) -> list[Question]:
        """One word a call, decoded with so many beams."""
        book = Book(self._channel, pb.DecodingOptions(beam_size=size))
        chosen = self.words[:SEARCH_WORDS]
        book.learn(chosen)
        return [book.question(word) for word in chosen]

    def drawn(self, top_p: float) -> list[Question]:
        """One word a call, its tokens drawn; each word has a seed of its own."""
        found = []
        for seed, word in enumerate(self.words[:SEARCH_WORDS]):
            book = Book(self._channel, pb.DecodingOptions(sampling=pb.Sampling(seed=seed, top_p=top_p)))
            book.learn([word])
            found.append(book.question(word))
        return found

    def mixed(self) -> list[Question]:
        """One word a call, of which some take LONG_STEPS steps, however short the word."""
        book = Book(self._channel, pb.DecodingOptions(min_length=LONG_STEPS, max_length=LONG_STEPS))
        chosen = self.words[:LONG_WORDS]
        book.learn(chosen)
        long = [book.question(word, is_long=True) for word in chosen]
        random = Random(SEED)
        count = 8 * len(self.single)
        return [random.choice(long if random.random() < LONG_SHARE else self.single) for _ in range(count)]

    def describe(self) -> str:
        """The model in a line."""
        model, reference = self.model, self.model.reference
        return (
            f"{reference.name}, version {reference.version}, digest {reference.digest[:12]}, "
            f"{model.architecture.parameters:,} weights, {model.profile} on {model.device}"
        )

    def typical(self) -> list[str]:
        """Four words, of lengths that an eighth, three, five and seven eighths of all do not exceed."""
        by_length = sorted(self.words, key=len)
        return [by_length[len(by_length) * eighth // 8] for eighth in (1, 3, 5, 7)]

    def request(self, word: str) -> bytes:
        """The message that asks one word."""
        return self._book.question(word).request

    def answer(self, word: str) -> str:
        """The target text of a word."""
        return self._book.text(word)

    def close(self) -> None:
        """Hangs up."""
        self._channel.close()


def endless(questions: list[Question]) -> Iterator[Question]:
    """The questions in an order that the seed decides, again and again."""
    return itertools.cycle(Random(SEED).choices(questions, k=8 * len(questions)))
