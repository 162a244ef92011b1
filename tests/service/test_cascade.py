"""The cascade that was fitted for a model: asked for by name, served as fitted, counted and described."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import grpc
import msgspec
import pytest

import chairlift
from bundle.card import Cascade
from bundle.reader import Bundle, read_bundle
from chairlift.description_wire import model as model_of
from chairlift.v1 import seq2seq_pb2 as pb
from export.cascade import decode
from export.parity import Graphs
from service import requests
from service.errors import InvalidRequest
from service.options import Options
from tests.service.conftest import Service
from training.beam import BeamOptions

WORDS = [f"{a}{b}{c}" for a in "chair" for b in "lift" for c in ("", "snow", "ride")]
FITTED = Cascade(
    beam_size=3,
    margin=0.05,
    profile="int8",
    dataset="dev",
    sources=54,
    beam_share=0.125,
    greedy_wer=30.0,
    cascade_wer=20.5,
    beam_wer=20.25,
)


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    """The tiny bundle, with a cascade."""
    found = read_bundle(tiny_bundle)
    return replace(found, manifest=msgspec.structs.replace(found.manifest, cascade=FITTED))


def read(fitted: Cascade | None = FITTED, max_beam_size: int = 3, **fields) -> Options:
    model = SimpleNamespace(
        manifest=SimpleNamespace(
            limits=SimpleNamespace(max_target_length=6),
            vocabulary=SimpleNamespace(target_size=9),
            cascade=fitted,
        ),
        bundle=SimpleNamespace(target=None),
        max_beam_size=max_beam_size,
    )
    return requests.options(pb.DecodingOptions(**fields), model)


def test_it_is_its_beam_and_its_margin():
    others = {"n_best": 3, "min_length": 2, "no_repeat_ngram": 2, "length_penalty": 0.5}
    assert read(cascade=True) == Options(6, beam_size=3, cascade_margin=0.05)
    assert read(cascade=True, **others) == read(beam_size=3, cascade_margin=0.05, **others)
    assert read(cascade=False) == Options(6)


@pytest.mark.parametrize(
    ("fields", "fitted", "max_beam_size", "complaint"),
    [
        ({}, None, 3, "none was fitted for this model"),
        ({"beam_size": 3}, FITTED, 3, "beside beam_size"),
        ({"cascade_margin": 0.05}, FITTED, 3, "beside beam_size"),
        ({"sampling": pb.Sampling()}, FITTED, 3, "beside beam_size"),
        ({}, FITTED, 2, "a beam of 3; this server allows at most 2"),
    ],
)
def test_where_it_cannot_be_had(fields, fitted, max_beam_size, complaint):
    with pytest.raises(InvalidRequest, match=complaint) as caught:
        read(fitted, max_beam_size, cascade=True, **fields)
    assert [violation.field for violation in caught.value.violations] == ["options.cascade"]


def offline(bundle: Bundle, width: int) -> tuple[list[list[int]], list[float]]:
    """Ids without <E>, and margins, as export decodes."""
    graphs = Graphs.load(*(bundle.graphs[f"{part}.fp32.onnx"] for part in ("encoder", "decoder")))
    options = BeamOptions(width, max_length=bundle.manifest.limits.max_target_length)
    sources = bundle.source.encode_many(WORDS)
    answers, margins = decode(graphs, sources, bundle.manifest.vocabulary.start_id, options)
    return [[token for token in ids if token] for ids in answers], margins


def ids_of(response: pb.GenerateResponse) -> list[list[int]]:
    return [list(result.generation.hypotheses[0].token_ids) for result in response.results]


def counted(service: Service) -> tuple[float, float]:
    """Cascades that ended as greedy, and with the beam."""
    greedy, beam = (
        service.metric("chairlift_cascades_total", result=result) for result in ("greedy", "beam")
    )
    return greedy, beam


async def test_it_is_served_as_it_was_fitted_and_counted(start, bundle):
    service = await start(max_rows=32)
    greedy, margins = offline(bundle, 1)
    beam, _ = offline(bundle, FITTED.beam_size)
    doubtful = [margin < FITTED.margin for margin in margins]
    assert 0 < sum(doubtful) < len(WORDS)
    wanted = [b if doubt else g for g, b, doubt in zip(greedy, beam, doubtful, strict=True)]
    assert ids_of(await service.ask(*WORDS, cascade=True)) == wanted not in (greedy, beam)
    assert counted(service) == (len(WORDS) - sum(doubtful), sum(doubtful))
    wider = [margin < 2 * FITTED.margin for margin in margins]
    assert sum(wider) > sum(doubtful)
    await service.ask(*WORDS, beam_size=FITTED.beam_size, cascade_margin=2 * FITTED.margin)
    assert counted(service)[1] == sum(doubtful) + sum(wider)


async def test_what_is_no_cascade_is_not_counted(start):
    service = await start()
    await service.ask("chair")
    await service.ask("chair", beam_size=3)
    assert counted(service) == (0, 0)


async def test_it_is_described(start):
    service = await start()
    described = (await service.stub.GetModel(pb.GetModelRequest(), timeout=10)).model
    [listed] = (await service.stub.ListModels(pb.ListModelsRequest(), timeout=10)).models
    for message in (described, listed):
        cascade = model_of(message).cascade
        assert isinstance(cascade, chairlift.Cascade)
        assert asdict(cascade) == msgspec.structs.asdict(FITTED)
    described.ClearField("cascade")
    assert model_of(described).cascade is None


async def test_a_model_without_one_says_so(start, tiny_bundle):
    service = await start()
    service.model.manifest = read_bundle(tiny_bundle).manifest
    assert not (await service.stub.GetModel(pb.GetModelRequest(), timeout=10)).model.HasField("cascade")
    with pytest.raises(grpc.aio.AioRpcError, match=r"options\.cascade: none was fitted") as caught:
        await service.ask("chair", cascade=True)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
