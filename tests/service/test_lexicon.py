"""What a lexicon has is answered from it, and says so; all else is the model's, under whatever lexicon."""

import grpc
import pytest

from bundle.lexicon import read_lexicon
from chairlift.v1 import seq2seq_pb2 as pb
from tests.service.conftest import CountdownEngine, GatedEngine, until

MODEL, LEXICON = pb.ANSWER_SOURCE_MODEL, pb.ANSWER_SOURCE_LEXICON
LINES = "abc\tT3 T4\tT5\nc3p0\tT6\n"
TARGETS = [[5, 6], [7]]  # of abc


def lexicon_for(service, lines):
    bundle = service.bundle
    return read_lexicon(lines.encode(), bundle.source, bundle.target, bundle.manifest.limits)


def give(service, lines=LINES):
    """Puts a lexicon in the place of the one that the model has."""
    service.models.replace(service.models.select("", 0).with_lexicon(lexicon_for(service, lines)))


@pytest.fixture
async def service(start, nobody_is_held):
    service = await start(CountdownEngine())
    give(service)
    return service


def sources(response):
    return [result.generation.source for result in response.results]


async def test_a_lexicons_answer_is_whole_and_says_so(service):
    (result,) = (await service.ask("abc")).results
    assert result.generation == pb.Generation(
        hypotheses=[
            pb.Hypothesis(text="T3 T4", token_ids=TARGETS[0], finish_reason=pb.FINISH_REASON_EOS, score=0.0)
        ],
        source_length=3,
        unknown_tokens=0,
        source=LEXICON,
    )
    assert service.engine.encoded == [] and service.metric("chairlift_answers_total", source="lexicon") == 1


async def test_without_a_lexicon_the_model_answers(start):
    service = await start(CountdownEngine())
    assert sources(await service.ask("abc")) == [MODEL] and len(service.engine.encoded) == 1
    assert service.metric("chairlift_answers_total", source="lexicon") == 0


async def test_a_call_may_have_both_kinds_and_errors(service):
    response = await service.ask("abc", "ab", "", "abc", "a" * 25, "b")
    kinds = [result.WhichOneof("outcome") for result in response.results]
    assert kinds == ["generation", "generation", "error", "generation", "error", "generation"]
    assert sources(response) == [LEXICON, MODEL, 0, LEXICON, 0, MODEL]
    assert [r.error.field for r in response.results if r.HasField("error")] == ["inputs[2]", "inputs[4]"]
    assert len(service.engine.encoded) == 2
    alone = [(await service.ask(text)).results[0] for text in ("abc", "ab", "b")]
    assert [response.results[place] for place in (0, 1, 5)] == alone


async def test_one_bad_input_beside_a_listed_one_is_its_own(service):
    response = await service.ask("abc", "")
    assert [result.WhichOneof("outcome") for result in response.results] == ["generation", "error"]


async def test_matching_is_exact_after_normalisation(service):
    texts = ["ABC", " aBc ", "abcd", "ab", "C3P0", "c4p0", "c3p"]
    response = await service.ask(*texts)
    assert sources(response) == [LEXICON, LEXICON, MODEL, MODEL, LEXICON, MODEL, MODEL]
    listed = response.results[4].generation
    assert listed.unknown_tokens == 2 and listed.hypotheses[0].text == "T6"


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        ({"beam_size": 3}, TARGETS[:1]),
        ({"beam_size": 3, "n_best": 3}, TARGETS),
        ({"beam_size": 3, "n_best": 2, "length_penalty": 1.0}, TARGETS),
        ({"beam_size": 2, "cascade_margin": 0.5}, TARGETS[:1]),
        ({"partial_on_deadline": True}, TARGETS[:1]),
        ({"max_length": 2}, TARGETS[:1]),
    ],
)
async def test_ways_to_the_best_answer_lead_to_the_lexicon(service, options, answers):
    (result,) = (await service.ask("abc", **options)).results
    assert result.generation.source == LEXICON
    assert [list(found.token_ids) for found in result.generation.hypotheses] == answers


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 1},
        {"beam_size": 3, "max_length": 1, "n_best": 3},
        {"min_length": 1},
        {"sampling": pb.Sampling(seed=1)},
        {"prefix": "T3"},
        {"allowed_tokens": ["T3"]},
        {"banned_tokens": ["T9"]},
        {"biases": [pb.TokenBias(token="T9", bias=-1)]},
        {"lexicon": ["T3 T4"]},
        {"no_repeat_ngram": 2},
        {"loop_repeats": 2},
        {"alternatives": 2},
    ],
    ids=lambda options: "-".join(options),
)
async def test_what_asks_for_more_is_the_models(service, options):
    assert sources(await service.ask("abc", **options)) == [MODEL]


async def test_log_probabilities_are_those_of_a_certainty(service):
    (result,) = (await service.ask("abc", log_probabilities=True)).results
    assert list(result.generation.hypotheses[0].log_probabilities) == [0.0, 0.0, 0.0]


async def test_a_stream_is_one_chunk_and_the_result(service):
    events = [event async for event in service.stub.GenerateStream(pb.GenerateStreamRequest(input="ABC"))]
    chunk, ended = events
    assert chunk.tokens == pb.TokenChunk(token_ids=TARGETS[0], text="T3 T4", log_probabilities=[0.0, 0.0])
    assert ended.result.generation == (await service.ask("abc")).results[0].generation
    assert ended.result.model == (await service.ask("abc")).model
    others = [event async for event in service.stub.GenerateStream(pb.GenerateStreamRequest(input="b"))]
    assert others[-1].result.generation.source == MODEL
    assert service.metric("chairlift_answers_total", source="lexicon") == 3


async def test_scores_are_the_models(service):
    request = pb.ScoreRequest(inputs=["abc"], targets=["T3 T4"])
    (result,) = (await service.stub.Score(request)).results
    assert result.score.score < 0 and len(service.engine.encoded) == 1


async def test_a_digest_names_the_lexicon_too(service):
    (listed,) = (await service.stub.ListModels(pb.ListModelsRequest())).models
    response = await service.ask("abc")
    assert listed.lexicon_entries == 2 and listed.reference == response.model
    assert response.model.digest != service.bundle.digest
    give(service, LINES + "x\tT1\n")
    assert (await service.ask("abc")).model.digest not in (service.bundle.digest, response.model.digest)
    give(service)
    assert (await service.ask("abc")).model == response.model
    service.models.replace(service.model)
    assert (await service.ask("abc")).model.digest == service.bundle.digest


async def test_neither_kept_nor_shared_answers_outlive_a_lexicon(start, nobody_is_held):
    service = await start(CountdownEngine(), answer_cache=100, single_flight=True)
    models = (await service.ask("abc")).results[0]
    assert (await service.ask("abc")).results[0] == models and len(service.engine.encoded) == 1
    give(service)
    assert (await service.ask("abc")).results[0].generation.hypotheses[0].text == "T3 T4"
    give(service, "abc\tT7\n")
    assert (await service.ask("abc")).results[0].generation.hypotheses[0].text == "T7"
    give(service, "x\tT7\n")
    assert (await service.ask("abc")).results[0] == models
    assert len(service.engine.encoded) == 1 and service.metric("chairlift_answers_total", source="kept") == 2


def change_in_place(models, model):
    """What a reload must not do: calls that are inside see it."""
    (old,) = models.all()
    old.lexicon, old.digest = model.lexicon, model.digest


@pytest.mark.parametrize("in_place", [False, True], ids=["replaced", "changed-in-place"])
async def test_a_call_has_one_lexicon_from_its_start_to_its_end(start, monkeypatch, nobody_is_held, in_place):
    if in_place:
        monkeypatch.setattr("service.catalogue.Models.replace", change_in_place)
    service = await start(GatedEngine())
    give(service)
    before = (await service.ask("abc")).model.digest
    call = service.stub.Generate(pb.GenerateRequest(inputs=["abc", "b"]))
    await until(lambda: service.model.dispatcher.inside)
    give(service, "b\tT9\n")
    later = await service.ask("b")
    service.engine.open()
    response = await call
    assert sources(response) == [LEXICON, MODEL] and sources(later) == [LEXICON]
    assert later.model.digest != before
    assert (response.model.digest == before) != in_place


async def test_a_listed_input_needs_no_room_in_the_queue(start, nobody_is_held):
    service = await start(GatedEngine(rows=2), max_waiting=1)
    give(service)
    calls = [service.stub.Generate(pb.GenerateRequest(inputs=["b"])) for _ in range(3)]
    await until(lambda: service.model.dispatcher.inside == 3)
    with pytest.raises(grpc.aio.AioRpcError):
        await service.ask("b")
    assert sources(await service.ask("abc")) == [LEXICON]
    service.engine.open()
    for call in calls:
        await call
