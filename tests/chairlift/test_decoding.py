"""How to decode, and scores of targets, through both clients: what is sent, and what comes back."""

from __future__ import annotations

import pytest

import chairlift
from chairlift import InputError
from chairlift.v1 import seq2seq_pb2 as pb

EVERY_OPTION: chairlift.Decoding = {
    "max_length": 4,
    "min_length": 1,
    "beam_size": 3,
    "n_best": 2,
    "length_penalty": 0.7,
    "cascade": True,
    "cascade_margin": 0.5,
    "seed": 2**64 - 1,
    "temperature": 0.5,
    "top_k": 6,
    "top_p": 0.9,
    "prefix": "w",
    "allowed_tokens": ["w", "o"],
    "banned_tokens": ["<unk>"],
    "biases": {"<E>": -1.5, "w": 2},
    "lexicon": ["w o", "w"],
    "no_repeat_ngram": 3,
    "loop_repeats": 4,
    "alternatives": 5,
    "log_probabilities": True,
    "alignments": True,
    "partial_on_deadline": True,
}
EVERY_FIELD = pb.DecodingOptions(
    max_length=4,
    min_length=1,
    beam_size=3,
    n_best=2,
    length_penalty=0.7,
    cascade=True,
    cascade_margin=0.5,
    sampling=pb.Sampling(seed=2**64 - 1, temperature=0.5, top_k=6, top_p=0.9),
    prefix="w",
    allowed_tokens=["w", "o"],
    banned_tokens=["<unk>"],
    biases=[pb.TokenBias(token="<E>", bias=-1.5), pb.TokenBias(token="w", bias=2)],
    lexicon=["w o", "w"],
    no_repeat_ngram=3,
    loop_repeats=4,
    alternatives=5,
    log_probabilities=True,
    alignments=True,
    partial_on_deadline=True,
)


def test_every_option_reaches_the_server(client, server):
    assert {field.name for field, _ in EVERY_FIELD.ListFields()} == set(EVERY_FIELD.DESCRIPTOR.fields_by_name)
    client.generate("snow", priority=-3, **EVERY_OPTION)
    assert (server.servicer.request.options, server.servicer.request.priority) == (EVERY_FIELD, -3)
    list(client.stream("snow", priority=7, **EVERY_OPTION))
    assert (server.servicer.request.options, server.servicer.request.priority) == (EVERY_FIELD, 7)


def test_option_that_there_is_not(client, server):
    with pytest.raises(TypeError, match="no such option: beams"):
        client.generate("snow", beams=3)
    assert not server.servicer.calls


@pytest.mark.parametrize("name", ["lexicon", "allowed_tokens", "banned_tokens"])
def test_one_text_is_no_list_of_its_letters(client, server, name):
    with pytest.raises(TypeError, match=f"{name}: one text; a list of texts is wanted"):
        client.generate("snow", **{name: "won"})
    assert not server.servicer.calls


def test_hypotheses_come_with_what_was_asked_for(client):
    [answer] = client.generate("snow", n_best=2, alternatives=1, log_probabilities=True)
    best, second = answer.hypotheses
    assert (best.text, second.text, answer.text) == ("w o n s", "w o n", "w o n s")
    assert (second.normalised_score, second.log_probabilities) == (-0.125, (-0.5,) * 3)
    assert second.alternatives == (chairlift.Alternatives((7,), (-0.25,)),) * 3
    [plain] = client.generate("snow")
    assert (plain.hypotheses[0].log_probabilities, plain.hypotheses[0].alternatives) == ((), ())
    assert plain.hypotheses[0].alignments == ()


def test_alignments_are_weights_of_the_source_for_each_token(client):
    [answer] = client.generate("ab", n_best=2, alignments=True)
    best, second = answer.hypotheses
    assert best.alignments == ((0.25, 0.75), (0.75, 0.25), (0.5, 0.5))  # of b, of a, of <E>
    assert second.alignments == ((0.25, 0.75),)
    *_, last = client.stream("ab", alignments=True)
    assert last.hypotheses[0].alignments == best.alignments


def test_scores_of_targets(client, server):
    first, bad = client.score(["snow?", "ab"], ["w o", "BAD"], priority=2)
    model = chairlift.ModelReference("backwards", 3, "ab" * 32)
    assert first == chairlift.TargetScore(-1.5, (ord("w"), ord("o")), (-0.5,) * 3, 5, 1, model)
    assert bad == InputError("INVALID_ARGUMENT", "bad", "targets[1]")
    assert server.servicer.request.priority == 2
    assert client.score("ab", "b a")[0].score == -1.5


def test_only_pair_that_is_bad_is_a_value_in_a_sequence_and_an_error_as_strings(client):
    assert client.score(["ab"], ["BAD"]) == [InputError("INVALID_ARGUMENT", "bad", "targets[0]")]
    with pytest.raises(chairlift.InvalidRequest):
        client.score("ab", "BAD")
    with pytest.raises(chairlift.InvalidRequest, match="told to"):
        client.score(["INVALID_ARGUMENT"], ["x"])


def test_score_with_too_few_results_is_the_servers_fault(client):
    with pytest.raises(chairlift.ServerError, match="1 results for 2 inputs"):
        client.score(["SHORT", "snow"], ["x", "y"])
