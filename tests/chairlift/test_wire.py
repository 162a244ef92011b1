"""The values against the messages: no field of the wire may be lost on the way."""

from __future__ import annotations

import dataclasses

import pytest

import chairlift
from chairlift import decoding, description, description_wire, results, wire
from chairlift.v1 import seq2seq_pb2 as pb


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (results.Alternatives, pb.Alternatives),
        (description.Architecture, pb.Architecture),
        (description.Calibration, pb.Calibration),
        (description.Cascade, pb.Cascade),
        (description.DataSource, pb.DataSource),
        (results.Hypothesis, pb.Hypothesis),
        (description.Limits, pb.Limits),
        (description.Model, pb.Model),
        (description.ModelCard, pb.ModelCard),
        (results.ModelReference, pb.ModelReference),
        (description.Precision, pb.Precision),
        (description.Score, pb.Score),
        (description.Speed, pb.Speed),
        (description.Timing, pb.Timing),
        (results.TokenChunk, pb.TokenChunk),
        (results.InputError, pb.Error),
    ],
)
def test_value_has_the_fields_of_its_message(value, message):
    assert [field.name for field in dataclasses.fields(value)] == [
        field.name for field in message.DESCRIPTOR.fields
    ]


def test_score_has_the_fields_of_its_message_and_the_model():
    fields = [field.name for field in dataclasses.fields(results.TargetScore)]
    assert fields == [*(field.name for field in pb.TargetScore.DESCRIPTOR.fields), "model"]


def test_every_field_of_the_options_is_an_option():
    fields = {field.name for field in pb.DecodingOptions.DESCRIPTOR.fields} - {"sampling"}
    draws = {field.name for field in pb.Sampling.DESCRIPTOR.fields} | {"sample"}
    assert set(decoding.Decoding.__annotations__) == fields | draws
    assert {field.name for field in pb.Sampling.DESCRIPTOR.fields} == set(decoding.SAMPLING)


def test_every_finish_reason_of_the_wire_has_its_value():
    assert {*wire.FINISH_REASONS, pb.FINISH_REASON_UNSPECIFIED} == set(pb.FinishReason.values())
    assert len(set(wire.FINISH_REASONS.values())) == len(wire.FINISH_REASONS)


def test_sampling_is_asked_for_by_any_of_its_fields():
    assert not decoding.message({"max_length": 3, "sample": False}).HasField("sampling")
    assert decoding.message({"sample": True}).HasField("sampling")
    assert decoding.message({"seed": 0}).HasField("sampling")
    assert decoding.message({"top_p": 0.5}).sampling.top_p == 0.5


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        (
            {"sample": False, "temperature": 1.5, "seed": 1},
            ValueError,
            "sample: False, with seed, temperature",
        ),
        ({"temperature": 0}, ValueError, "temperature: 0"),
        ({"top_p": 0.0, "sample": True}, ValueError, "top_p: 0"),
        ({"lexicon": []}, ValueError, "lexicon: empty"),
        ({"allowed_tokens": ()}, ValueError, "allowed_tokens: empty"),
        ({"biases": [("w", 1.0)]}, TypeError, "biases: a mapping"),
        ({"colour": 1}, TypeError, "no such option: colour"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, error, named):
    with pytest.raises(error, match=named):
        decoding.message(options)


def test_card_is_read_field_by_field():
    source = pb.DataSource(name="n", licence="l", split="s", examples=4, sha256="h")
    score = pb.Score(dataset="d", metric="m", value=0.5, sources=6, decoding="greedy")
    sure = pb.Score(metric="m", interval_95=pb.Interval(low=0.25, high=0.75))
    timing = pb.Timing(profile="p", rows=7, source_microseconds=0.125, step_microseconds=8.0)
    speed = pb.Speed(machine="m", runtime="r", threads=9, source_length=10, timings=[timing])
    texts = {"title": "t", "description": "d", "licence": "l", "training_commit": "c"}
    card = pb.ModelCard(data=[source], scores=[score, sure], speed=speed, **texts)
    assert description_wire.model(pb.Model(card=card)).card == chairlift.ModelCard(
        "t",
        "d",
        "l",
        (chairlift.DataSource("n", "l", "s", 4, "h"),),
        (chairlift.Score("d", "m", 0.5, 6, "greedy"), chairlift.Score("", "m", 0.0, 0, "", (0.25, 0.75))),
        "c",
        chairlift.Speed("m", "r", 9, 10, (chairlift.Timing("p", 7, 0.125, 8.0),)),
    )


def test_architecture_and_limits_are_read_field_by_field():
    numbers = {
        "encoder_layers": 1,
        "decoder_layers": 2,
        "embedding_size": 3,
        "hidden_size": 4,
        "parameters": 5,
    }
    kinds = {"cell": "lstm", "attention": "dot", "context": "first-step"}
    message = pb.Architecture(
        bidirectional=True, encoder_hidden_size=6, input_feeding=True, **kinds, **numbers
    )
    limits = pb.Limits(max_source_length=7, max_target_length=8, max_inputs=9, max_beam_size=10)
    model = description_wire.model(pb.Model(architecture=message, limits=limits))
    assert model.architecture == chairlift.Architecture(
        "lstm", 1, 2, 3, 4, True, "dot", 5, 6, True, "first-step"
    )
    assert model.limits == chairlift.Limits(7, 8, 9, 10)


def test_cascade_is_read_field_by_field():
    numbers = {
        "margin": 0.25,
        "beam_share": 0.125,
        "greedy_wer": 0.5,
        "cascade_wer": 0.375,
        "beam_wer": 0.0625,
    }
    message = pb.Cascade(beam_size=5, profile="int8", dataset="dev", sources=6, **numbers)
    assert description_wire.model(pb.Model(cascade=message)).cascade == chairlift.Cascade(
        beam_size=5, profile="int8", dataset="dev", sources=6, **numbers
    )
    assert description_wire.model(pb.Model()).cascade is None


def test_finish_reason_of_a_newer_server():
    hypothesis = pb.Hypothesis(text="x")
    hypothesis.finish_reason = 99
    result = pb.Result(generation=pb.Generation(hypotheses=[hypothesis]))
    request = wire.generate_request("x", pb.ModelSelector(), 0, {})
    [answer] = wire.results(request, pb.GenerateResponse(results=[result]))
    assert answer.finish_reason is chairlift.FinishReason.UNSPECIFIED


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (pb.Result(), "without a generation or an error"),
        (pb.Result(generation=pb.Generation()), "without a hypothesis"),
    ],
)
def test_empty_results_break_the_contract(result, complaint):
    request = wire.generate_request("x", pb.ModelSelector(), 0, {})
    with pytest.raises(chairlift.ServerError, match=complaint):
        wire.results(request, pb.GenerateResponse(results=[result]))


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        (pb.ScoreResponse(), "0 results for 1 inputs"),
        (pb.ScoreResponse(results=[pb.ScoreResult()]), "without a score or an error"),
    ],
)
def test_scores_that_break_the_contract(response, complaint):
    request = wire.score_request("x", "y", pb.ModelSelector(), 0)
    with pytest.raises(chairlift.ServerError, match=complaint):
        wire.score_results(request, response)


def test_nothing_may_follow_the_result_of_a_stream():
    reader = wire.StreamReader()
    end = pb.GenerateStreamResponse(
        result=pb.StreamResult(generation=pb.Generation(hypotheses=[pb.Hypothesis()]))
    )
    reader.read(end)
    reader.end()
    with pytest.raises(chairlift.ServerError, match="after the result"):
        reader.read(end)
