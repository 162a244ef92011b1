"""Every way of decoding over the wire: beams against PyTorch's, scores and streams against answers."""

import asyncio
import itertools
import time
from pathlib import Path

import grpc
import pytest
import torch
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from chairlift.v1 import seq2seq_pb2 as pb
from service.options import Options
from service.servicer import _time_for
from tests.service.conftest import GatedEngine, Service, until
from training.beam import BeamOptions, beam_search
from training.checkpoint import load_checkpoint
from training.model import Seq2Seq

SECONDS = 0.3  # that a call may take, where it is held up
WORDS = ["".join(letters) for letters in itertools.product("ab", "chair", "lift")]


@pytest.fixture(scope="session")
def network(tiny_run: Path) -> Seq2Seq:
    """The network that the tiny bundle was exported from."""
    checkpoint = load_checkpoint(tiny_run / "best.safetensors")
    tensors = {name.removeprefix("model."): tensor for name, tensor in checkpoint.tensors.items()}
    sizes = (len(tensors[f"{side}.embedding.weight"]) for side in ("encoder", "decoder"))
    network = Seq2Seq(*sizes, checkpoint.recipe.model)
    network.load_state_dict(tensors)
    return network.eval()


def generations(response: pb.GenerateResponse) -> list[pb.Generation]:
    return [result.generation for result in response.results]


@pytest.mark.parametrize(("width", "n_best", "length_penalty"), [(2, 1, 0.0), (5, 5, 1.0), (12, 4, 0.7)])
async def test_a_served_beam_is_pytorchs(start, network, width, n_best, length_penalty):
    service = await start(max_rows=32)
    response = await service.ask(
        *WORDS, beam_size=width, n_best=n_best, length_penalty=length_penalty, log_probabilities=True
    )
    options = BeamOptions(width, n_best, length_penalty, service.bundle.manifest.limits.max_target_length)
    for word, generation in zip(WORDS, generations(response), strict=True):
        source = torch.tensor([service.bundle.source.encode(word)])
        [wanted] = beam_search([network], source, torch.tensor([source.shape[1]]), options)
        assert len(generation.hypotheses) == len(wanted)
        for found, right in zip(generation.hypotheses, wanted, strict=True):
            end = [0] * (found.finish_reason == pb.FINISH_REASON_EOS)
            assert (*found.token_ids, *end) == right.ids
            assert found.log_probabilities == pytest.approx(right.scores, abs=1e-4)
            assert found.score == pytest.approx(right.score, abs=1e-4)
            assert found.normalised_score == pytest.approx(right.normalised(length_penalty), abs=1e-4)


async def test_scores_of_targets_are_those_of_the_answers(start):
    service = await start()
    asked = {"max_length": 11, "beam_size": 8, "n_best": 8, "log_probabilities": True}
    answers = generations(await service.ask(*WORDS, **asked))
    pairs = [
        (word, hypothesis)
        for word, generation in zip(WORDS, answers, strict=True)
        for hypothesis in generation.hypotheses
        if hypothesis.text and "<" not in hypothesis.text
    ]
    assert len(pairs) > 20
    words, hypotheses = zip(*pairs, strict=True)
    request = pb.ScoreRequest(inputs=words, targets=[hypothesis.text for hypothesis in hypotheses])
    response = await service.stub.Score(request, timeout=10)
    for result, hypothesis in zip(response.results, hypotheses, strict=True):
        count = len(hypothesis.log_probabilities)
        assert result.score.token_ids == hypothesis.token_ids
        assert result.score.log_probabilities[:count] == hypothesis.log_probabilities  # to the bit
        assert len(result.score.log_probabilities) == len(hypothesis.token_ids) + 1
        assert result.score.score == pytest.approx(sum(result.score.log_probabilities), abs=1e-4)
        assert (result.score.source_length, result.score.unknown_tokens) == (3, 0)


async def test_one_bad_pair_harms_no_other(start):
    service = await start()
    request = pb.ScoreRequest(inputs=["ab", "", "cd"], targets=["T1 T2", "T1", "T1 nonsense"])
    results = (await service.stub.Score(request, timeout=10)).results
    assert [result.WhichOneof("outcome") for result in results] == ["score", "error", "error"]
    assert [result.error.field for result in results[1:]] == ["inputs[1]", "targets[2]"]


OPTIONS = {
    "beam": {"beam_size": 4, "length_penalty": 1.0},
    "cascade": {"beam_size": 4, "cascade_margin": 0.2},
    "draws": {"sampling": pb.Sampling(seed=5)},
    "prefix": {"prefix": "T1 T2", "min_length": 5},
    "constraints": {"banned_tokens": ["<unk>", "T4"], "no_repeat_ngram": 1},
    "biases": {"biases": [pb.TokenBias(token="<E>", bias=3)], "allowed_tokens": ["T5", "T6"]},
    "lexicon": {"lexicon": ["T1 T2", "T3", "T1 T4 T5"], "beam_size": 3, "n_best": 3},
    "loop": {"loop_repeats": 2},
}


@pytest.mark.parametrize("fields", OPTIONS.values(), ids=OPTIONS)
async def test_answers_are_the_same_alone_together_and_as_streams(start, fields):
    service = await start()
    together = await service.ask(*WORDS, **fields)
    options = pb.DecodingOptions(**fields)
    for word, wanted in zip(WORDS, generations(together), strict=True):
        assert generations(await service.ask(word, **fields)) == [wanted]
        request = pb.GenerateStreamRequest(input=word, options=options)
        *chunks, last = [event async for event in service.stub.GenerateStream(request, timeout=10)]
        assert last.result.generation == wanted
        ids = [token for chunk in chunks for token in chunk.tokens.token_ids]
        assert ids == wanted.hypotheses[0].token_ids
        assert "".join(chunk.tokens.text for chunk in chunks) == wanted.hypotheses[0].text


async def test_what_constraints_promise(start):
    service = await start()
    for fields, holds in (
        (OPTIONS["prefix"], lambda text: text.startswith("T1 T2 ") and len(text.split()) >= 5),
        (OPTIONS["constraints"], lambda text: len(set(text.split())) == len(text.split())),
        (OPTIONS["biases"], lambda text: set(text.split()) <= {"T5", "T6"}),
        (OPTIONS["lexicon"], lambda text: text in OPTIONS["lexicon"]["lexicon"]),
    ):
        for generation in generations(await service.ask(*WORDS, **fields)):
            assert all(holds(hypothesis.text) for hypothesis in generation.hypotheses)
        free = generations(await service.ask(*WORDS))
        assert not all(holds(generation.hypotheses[0].text) for generation in free)


DEAD_ENDS = {
    "greedy": {},
    "beam": {"beam_size": 3, "n_best": 2},
    "cascade": {"beam_size": 3, "cascade_margin": 0.2},
    "draws": {"sampling": pb.Sampling(seed=5)},
}


@pytest.mark.parametrize("fields", DEAD_ENDS.values(), ids=DEAD_ENDS)
async def test_where_nothing_may_come_the_answer_is_empty_and_says_why(start, fields):
    service = await start()
    options = {"lexicon": ["T1 T2"], "banned_tokens": ["T1"], "log_probabilities": True, **fields}
    answers = generations(await service.ask("ab", "cd", **options))
    request = pb.GenerateStreamRequest(input="ab", options=pb.DecodingOptions(**options))
    [last] = [event async for event in service.stub.GenerateStream(request, timeout=10)]
    for answer in (*answers, last.result.generation):
        [found] = answer.hypotheses
        assert (found.text, *found.token_ids, *found.log_probabilities, found.score) == ("", 0.0)
        assert found.finish_reason == pb.FINISH_REASON_CONSTRAINT and not found.HasField("confidence")


async def test_a_stream_may_not_be_far_too_large_either(start, monkeypatch):
    monkeypatch.setattr("service.requests.MAX_NUMBERS", 50)
    service = await start()
    request = pb.GenerateStreamRequest(input="ab", options=pb.DecodingOptions(alternatives=8))
    with pytest.raises(grpc.aio.AioRpcError, match="50 in one answer are allowed") as caught:
        [event async for event in service.stub.GenerateStream(request, timeout=10)]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_many_ways_of_decoding_share_the_rows(start):
    service = await start()
    alone = [await service.ask(*WORDS, **fields) for fields in OPTIONS.values()]
    together = await asyncio.gather(*(service.ask(*WORDS, **fields) for fields in OPTIONS.values()))
    assert together == alone


async def test_an_option_out_of_bounds_names_its_field(start):
    service = await start()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.ask("ab", beam_size=9)  # more than the rows
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status: Status = rpc_status.from_call(caught.value)
    details = BadRequest()
    assert status.details[0].Unpack(details)
    assert details.field_violations[0].field == "options.beam_size"


async def past_the_deadline(service: Service) -> None:
    """Waits until the call inside is late, its sequence held in the third step."""
    await until(lambda: len(service.engine.counts) == 2)
    late = time.monotonic() + SECONDS  # after the deadline, which was set before the first step
    await until(lambda: time.monotonic() > late)


@pytest.mark.parametrize("options", [{}, {"min_length": 1}, {"beam_size": 2, "n_best": 2}])
async def test_at_the_deadline_the_best_so_far_is_the_answer_if_asked_for(start, options):
    service = await start(GatedEngine(), max_request_seconds=SECONDS)
    service.engine.let_go(2)
    call = asyncio.ensure_future(service.ask("h", partial_on_deadline=True, **options))
    await past_the_deadline(service)
    service.engine.open()
    [generation] = generations(await call)
    *whole, part = generation.hypotheses
    assert [hypothesis.finish_reason for hypothesis in whole] == [pb.FINISH_REASON_EOS] * len(whole)
    assert part.finish_reason == pb.FINISH_REASON_DEADLINE
    assert 1 <= len(part.token_ids) <= 3


async def test_of_several_inputs_those_that_had_not_begun_are_too_late(start):
    service = await start(GatedEngine(rows=2), max_request_seconds=SECONDS)
    service.engine.let_go(2)
    call = asyncio.ensure_future(service.ask("h", "i", "j", "k", partial_on_deadline=True))
    await past_the_deadline(service)
    service.engine.open()
    *begun, third, fourth = (await call).results
    for result in begun:
        [found] = result.generation.hypotheses
        assert (len(found.token_ids), found.finish_reason) == (3, pb.FINISH_REASON_DEADLINE)
    for result in (third, fourth):
        assert result.error == pb.Error(code=4, message="the deadline passed before the answer was complete")


async def test_where_none_had_begun_the_call_is_too_late(start):
    service = await start(GatedEngine(rows=2), max_request_seconds=SECONDS)
    service.engine.let_go(2)
    others = asyncio.ensure_future(service.ask("h", "i", partial_on_deadline=True))
    await until(lambda: len(service.engine.counts) == 2)
    call = asyncio.ensure_future(service.ask("j", "k", partial_on_deadline=True))
    await until(lambda: service.metric("chairlift_sequences_waiting") == 2)
    await past_the_deadline(service)
    service.engine.open()
    assert len(generations(await others)) == 2
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_without_being_asked_for_a_part_is_no_answer(start):
    service = await start(GatedEngine(), max_request_seconds=SECONDS)
    service.engine.let_go(2)
    call = asyncio.ensure_future(service.ask("h", beam_size=2))
    await past_the_deadline(service)
    service.engine.open()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_part_is_finished_in_time_to_arrive():
    partial = Options(5, partial_on_deadline=True)
    assert _time_for(Options(5), 1.0) == 1.0
    assert _time_for(partial, None) is None
    assert _time_for(partial, 10.0) == 9.95
    assert _time_for(partial, 0.1) == pytest.approx(0.09)
