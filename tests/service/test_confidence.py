"""Each hypothesis comes with the formula's probability, and with none where the formula does not hold."""

from dataclasses import asdict, replace
from pathlib import Path

import msgspec
import pytest

import chairlift
from bundle.card import Calibration, Precision
from bundle.confidence import confidence
from bundle.reader import Bundle, read_bundle
from chairlift.description_wire import model as model_of
from chairlift.v1 import seq2seq_pb2 as pb
from tests.service.conftest import CountdownEngine

WORDS = list("abcdefgh")  # answers of 2 to 9 tokens, counted down
FITTED = Calibration(
    temperature=1.25,
    bias=2.0,
    smoothing=0.1,
    ceiling=0.95,
    profile="int8",
    dataset="dev",
    sources=40,
    measured_on="test",
    measured_sources=50,
    expected_error=0.015625,
    precisions=(
        Precision(confidence=0.5, coverage=0.75, precision=0.875),
        Precision(confidence=0.9, coverage=0.5, precision=0.96875),
    ),
)


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    """The tiny bundle, with a calibration."""
    found = read_bundle(tiny_bundle)
    return replace(found, manifest=msgspec.structs.replace(found.manifest, calibration=FITTED))


def hypotheses(response: pb.GenerateResponse) -> list[pb.Hypothesis]:
    return [one for result in response.results for one in result.generation.hypotheses]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"beam_size": 4, "n_best": 4},
        {"beam_size": 4, "cascade_margin": 0.2},
        {"beam_size": 4, "length_penalty": 1.0},
        {"max_length": 5},
        {"loop_repeats": 2},
        {"alternatives": 2},
    ],
)
async def test_it_is_the_formulas_where_the_model_alone_decides(start, bundle, fields):
    service = await start(CountdownEngine(8))
    found = hypotheses(await service.ask(*WORDS, **{**fields, "log_probabilities": True}))
    emitted = bundle.manifest.vocabulary.target_size - 1
    whole = [one for one in found if one.finish_reason == pb.FINISH_REASON_EOS]
    for one in whole:
        assert one.confidence == pytest.approx(confidence(FITTED, one.log_probabilities, emitted), rel=1e-6)
    assert len({one.confidence for one in whole}) >= 3
    for one in found:
        assert one.HasField("confidence") == (one.finish_reason == pb.FINISH_REASON_EOS)


async def test_answers_that_are_cut_off_have_none(start):
    service = await start(CountdownEngine(8))
    found = hypotheses(await service.ask(*WORDS, max_length=2))
    reasons = {one.finish_reason for one in found}
    assert pb.FINISH_REASON_LENGTH in reasons
    assert not any(one.HasField("confidence") for one in found if one.finish_reason != pb.FINISH_REASON_EOS)


@pytest.mark.parametrize(
    "fields",
    [
        {"sampling": pb.Sampling(seed=5)},
        {"prefix": "T1"},
        {"min_length": 1},
        {"allowed_tokens": ["T5", "T6"]},
        {"banned_tokens": ["T4"]},
        {"biases": [pb.TokenBias(token="<E>", bias=3)]},
        {"lexicon": ["T1 T2", "T3"]},
        {"no_repeat_ngram": 1},
        {"beam_size": 3, "n_best": 3, "banned_tokens": ["T4"]},
    ],
)
async def test_where_something_else_decides_too_there_is_none(start, fields):
    service = await start(CountdownEngine(8))
    found = hypotheses(await service.ask(*WORDS, **fields))
    assert any(one.finish_reason == pb.FINISH_REASON_EOS for one in found)
    assert not any(one.HasField("confidence") for one in found)


async def test_a_stream_ends_with_it_and_an_answer_that_is_kept_has_it_too(start):
    service = await start(CountdownEngine(8), answer_cache=100)
    for word in WORDS[:4]:
        first = hypotheses(await service.ask(word))
        assert hypotheses(await service.ask(word)) == first
        assert first[0].confidence > 0
        request = pb.GenerateStreamRequest(input=word)
        *_, last = [event async for event in service.stub.GenerateStream(request, timeout=10)]
        assert list(last.result.generation.hypotheses) == first
    assert service.metric("chairlift_answers_total", source="kept") == 4


async def test_it_is_described(start):
    service = await start()
    described = (await service.stub.GetModel(pb.GetModelRequest(), timeout=10)).model
    [listed] = (await service.stub.ListModels(pb.ListModelsRequest(), timeout=10)).models
    for message in (described, listed):
        calibration = model_of(message).calibration
        assert isinstance(calibration, chairlift.Calibration)
        assert asdict(calibration) == {
            **msgspec.structs.asdict(FITTED),
            "precisions": tuple(msgspec.structs.asdict(promise) for promise in FITTED.precisions),
        }


async def test_a_model_without_one_has_neither(start, tiny_bundle):
    service = await start(bundle=read_bundle(tiny_bundle))
    described = (await service.stub.GetModel(pb.GetModelRequest(), timeout=10)).model
    assert not described.HasField("calibration")
    assert model_of(described).calibration is None
    assert not any(one.HasField("confidence") for one in hypotheses(await service.ask(*WORDS)))
