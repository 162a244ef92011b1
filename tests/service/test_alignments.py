"""What the attention looked at is PyTorch's, for every way of decoding, beside sources of every length."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import grpc
import pytest

from bundle.reader import Bundle
from chairlift.v1 import seq2seq_pb2 as pb
from service.engine import Engine
from tests.service.conftest import Service, Start
from tests.service.networks import Kind, aligned, exported
from training.model import Seq2Seq

KINDS: list[Kind] = [("lstm", "general", 2), ("gru", "dot-fed", 1), ("lstm-peephole", "additive", 0)]
WAYS: list[dict[str, object]] = [
    {},
    {"beam_size": 5, "n_best": 5},
    {"beam_size": 4, "n_best": 2, "length_penalty": 1.0, "alternatives": 2},
    {"beam_size": 3, "cascade_margin": 0.3},
    {"sampling": pb.Sampling(seed=3, temperature=2.0)},
    {"prefix": "T3 T4", "min_length": 4},
    {"max_length": 2},
]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind[1])
def attentive(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, Seq2Seq]:
    """Weights as they are before a training: where they are larger, so are differences in rounding."""
    return exported(tmp_path_factory.getbasetemp(), request.param, spread=1)


@pytest.fixture
def words() -> list[str]:
    chance = random.Random(8)
    return ["".join(chance.choices("abcdefghij", k=length)) for length in (1, 3, 8, 15, 16, 17, 24, 5)]


def farthest(service: Service, network: Seq2Seq, word: str, found: pb.Generation) -> float:
    """The largest distance from PyTorch's alignments. As many are asked for as there are scores."""
    source, worst = service.bundle.source.encode(word), 0.0
    assert found.hypotheses
    for hypothesis in found.hypotheses:
        assert len(hypothesis.alignments) == len(hypothesis.log_probabilities) > 0
        wanted = aligned(network, source, hypothesis.token_ids)
        for alignment, weights in zip(hypothesis.alignments, wanted, strict=False):
            assert len(alignment.weights) == len(source)
            assert sum(alignment.weights) == pytest.approx(1, abs=1e-5)
            worst = max(worst, *(abs(a - b) for a, b in zip(alignment.weights, weights, strict=True)))
    return worst


Ask = Callable[[dict[str, object]], Awaitable[pb.GenerateResponse]]


async def in_turn(service: Service, words: list[str]) -> list[tuple[str, pb.Generation]]:
    """Each word decoded each way, with nobody else inside."""
    return [
        (
            word,
            (await service.ask(word, alignments=True, log_probabilities=True, **way)).results[0].generation,
        )
        for way in WAYS
        for word in words
    ]


async def at_once(service: Service, words: list[str]) -> list[tuple[str, pb.Generation]]:
    """The same, all together."""
    asked = [service.ask(*words, alignments=True, log_probabilities=True, **way) for way in WAYS]
    responses = await asyncio.gather(*asked)
    return [
        (word, result.generation)
        for response in responses
        for word, result in zip(words, response.results, strict=True)
    ]


async def test_alignments_are_pytorchs_alone_and_in_company(
    start: Start, attentive: tuple[Bundle, Seq2Seq], words: list[str]
) -> None:
    bundle, network = attentive
    service = await start(bundle=bundle, max_rows=32)
    alone, together = await in_turn(service, words), await at_once(service, words)
    assert alone == together
    assert len(alone) == len(WAYS) * len(words)
    assert max(farthest(service, network, word, found) for word, found in alone) < 1e-5


class LooksLate(Engine):
    """Broken on purpose: each row is told what the one before it looked at."""

    def alignments(self, rows):
        return super().alignments([max(0, row - 1) for row in rows])


async def test_alignments_of_another_row_are_seen(
    start: Start, attentive: tuple[Bundle, Seq2Seq], words: list[str]
) -> None:
    """Negative control."""
    bundle, network = attentive
    service = await start(bundle=bundle, engine=LooksLate(bundle, "fp32", 32))
    found = await service.ask(*words[3:5], alignments=True, log_probabilities=True)
    word, second = words[4], found.results[1].generation
    assert farthest(service, network, word, second) > 1e-3


async def test_only_who_asks_gets_them(
    start: Start, attentive: tuple[Bundle, Seq2Seq], words: list[str]
) -> None:
    """And kept answers are kept apart; a stream's come with its result."""
    service = await start(bundle=attentive[0], answer_cache=100, single_flight=True)
    for _ in range(2):
        answers = [await service.ask(words[2], alignments=asked) for asked in (True, False)]
        with_them, without = (answer.results[0].generation.hypotheses[0] for answer in answers)
        assert with_them.alignments and not without.alignments
        assert with_them.token_ids == without.token_ids
    request = pb.GenerateStreamRequest(input=words[2], options=pb.DecodingOptions(alignments=True))
    *_, last = [message async for message in service.stub.GenerateStream(request, timeout=10)]
    assert last.result.generation.hypotheses[0].alignments == with_them.alignments


async def test_a_model_without_attention_has_none(start: Start) -> None:
    service = await start()
    with pytest.raises(grpc.aio.AioRpcError, match="no attention") as caught:
        await service.ask("word", alignments=True)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "options.alignments" in caught.value.details()
