"""What requests ask for: every option, every limit, and the field that each complaint names."""

from types import SimpleNamespace

import pytest

from bundle.text import TargetText, build_target
from chairlift.v1 import seq2seq_pb2 as pb
from service import requests
from service.errors import InvalidRequest
from service.options import Options, Sampling, pack, unpack

WORDS = TargetText(build_target(["S", "N", "OW"], "word"))  # ids 2, 3, 4; <S> is 5
LETTERS = TargetText(build_target(list("abc "), "char"))


def model(target: TargetText = WORDS, attention: str = "none") -> SimpleNamespace:
    return SimpleNamespace(
        bundle=SimpleNamespace(target=target),
        manifest=SimpleNamespace(
            limits=SimpleNamespace(max_source_length=5, max_target_length=6),
            vocabulary=SimpleNamespace(target_size=len(target.tokens)),
            architecture=SimpleNamespace(attention=attention),
        ),
        max_beam_size=5,
        max_inputs=3,
    )


def read(target: TargetText = WORDS, **fields) -> Options:
    return requests.options(pb.DecodingOptions(**fields), model(target))


def test_nothing_asked_for_is_plain_greedy_decoding():
    assert read() == Options(6)
    assert read(log_probabilities=True) == Options(6)  # which is no matter of decoding
    assert read(max_length=6) == Options(6)
    assert read(beam_size=1, n_best=1) == Options(6)


def test_every_option_is_read():
    assert read(
        max_length=5,
        min_length=1,
        beam_size=4,
        n_best=3,
        length_penalty=0.7,
        cascade_margin=0.5,
        prefix="S N",
        allowed_tokens=["OW", "S", "N", "OW"],
        banned_tokens=["<unk>"],
        biases=[pb.TokenBias(token="S", bias=-1.5), pb.TokenBias(token="<E>", bias=2)],
        lexicon=["S N OW", "S N", "S N OW"],
        no_repeat_ngram=2,
        loop_repeats=3,
        alternatives=8,
        partial_on_deadline=True,
    ) == Options(
        5,
        min_length=1,
        beam_size=4,
        n_best=3,
        length_penalty=0.7,
        cascade_margin=0.5,
        prefix=(2, 3),
        allowed=(2, 3, 4),
        banned=(1,),
        biases=((0, 2.0), (2, -1.5)),
        lexicon=pack([(2, 3), (2, 3, 4)]),
        no_repeat_ngram=2,
        loop_repeats=3,
        alternatives=8,
        partial_on_deadline=True,
    )


def test_alignments_need_attention():
    asked = pb.DecodingOptions(alignments=True)
    assert requests.options(asked, model(attention="dot")) == Options(6, alignments=True)
    with pytest.raises(InvalidRequest, match="no attention") as caught:
        requests.options(asked, model())
    assert [violation.field for violation in caught.value.violations] == ["options.alignments"]


@pytest.mark.parametrize(
    ("asked", "inputs", "field"),
    [
        (Options(6, alignments=True), 1_000_000, "options.alignments"),
        (Options(6, alternatives=8, beam_size=32, n_best=32), 1_051, "options.alternatives"),
        (Options(6, beam_size=32, n_best=32), 17_858, "options.n_best"),
    ],
)
def test_answers_that_would_be_far_too_large(asked, inputs, field):
    with pytest.raises(InvalidRequest, match="4000000 in one answer") as caught:
        requests.refuse_floods(asked, False, inputs, model(attention="dot"))
    assert [violation.field for violation in caught.value.violations] == [field]
    requests.refuse_floods(asked, True, inputs // 100, model(attention="dot"))


def test_numbers_of_an_answer_are_counted_to_the_last():
    asked = Options(9, alternatives=2)  # a token, its log-probability, two more of each: 6 at 10 positions
    requests.refuse_floods(asked, True, 66_666, model())
    with pytest.raises(InvalidRequest, match="up to 4000020 numbers"):
        requests.refuse_floods(asked, True, 66_667, model())
    requests.refuse_floods(asked, False, 66_667, model())


def test_draws():
    assert read(sampling=pb.Sampling()).sampling == Sampling(0, 1.0, 0, 1.0)
    asked = pb.Sampling(seed=2**64 - 1, temperature=0.5, top_k=5, top_p=0.25)
    assert read(sampling=asked).sampling == Sampling(2**64 - 1, 0.5, 5, 0.25)


def test_texts_are_cut_up_as_the_model_does():
    assert read(LETTERS, prefix="ab c").prefix == (2, 3, 5, 4)
    assert read(LETTERS, lexicon=["ab", "c"]).lexicon == pack([(4,), (2, 3)])
    assert read(LETTERS, banned_tokens=[" "]).banned == (5,)


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"max_length": -1}, "options.max_length"),
        ({"max_length": 7}, "options.max_length"),
        ({"min_length": -1}, "options.min_length"),
        ({"max_length": 3, "min_length": 4}, "options.min_length"),
        ({"beam_size": -1}, "options.beam_size"),
        ({"beam_size": 6}, "options.beam_size"),
        ({"n_best": 2}, "options.n_best"),
        ({"beam_size": 3, "n_best": 4}, "options.n_best"),
        ({"length_penalty": -0.1}, "options.length_penalty"),
        ({"length_penalty": 5.1}, "options.length_penalty"),
        ({"length_penalty": NAN}, "options.length_penalty"),
        ({"cascade_margin": -1}, "options.cascade_margin"),
        ({"beam_size": 2, "cascade_margin": INFINITY}, "options.cascade_margin"),
        ({"cascade_margin": 1}, "options.cascade_margin"),
        ({"beam_size": 2, "sampling": pb.Sampling()}, "options.sampling"),
        ({"sampling": pb.Sampling(temperature=0.001)}, "options.sampling.temperature"),
        ({"sampling": pb.Sampling(temperature=NAN)}, "options.sampling.temperature"),
        ({"sampling": pb.Sampling(top_k=-1)}, "options.sampling.top_k"),
        ({"sampling": pb.Sampling(top_k=6)}, "options.sampling.top_k"),
        ({"sampling": pb.Sampling(top_p=1.1)}, "options.sampling.top_p"),
        ({"sampling": pb.Sampling(top_p=-0.1)}, "options.sampling.top_p"),
        ({"prefix": "S X"}, "options.prefix"),
        ({"prefix": " "}, "options.prefix"),
        ({"prefix": "S\x00"}, "options.prefix"),
        ({"prefix": "S S S S S S S"}, "options.prefix"),
        ({"max_length": 1, "prefix": "S N"}, "options.prefix"),
        ({"allowed_tokens": ["S", "s"]}, "options.allowed_tokens[1]"),
        ({"allowed_tokens": ["S"] * 257}, "options.allowed_tokens"),
        ({"banned_tokens": ["<S>"]}, "options.banned_tokens[0]"),
        ({"banned_tokens": ["<E>"]}, "options.banned_tokens"),
        ({"banned_tokens": ["S"] * 257}, "options.banned_tokens"),
        ({"biases": [pb.TokenBias(token="S", bias=100.1)]}, "options.biases[0].bias"),
        ({"biases": [pb.TokenBias(token="S", bias=NAN)]}, "options.biases[0].bias"),
        ({"biases": [pb.TokenBias(token="S N", bias=1)]}, "options.biases[0].token"),
        ({"biases": [pb.TokenBias(token="S", bias=1)] * 2}, "options.biases[1].token"),
        ({"biases": [pb.TokenBias(token="S", bias=1)] * 257}, "options.biases"),
        ({"lexicon": ["S", "<E>"]}, "options.lexicon[1]"),
        ({"lexicon": ["S", ""]}, "options.lexicon[1]"),
        ({"max_length": 1, "lexicon": ["S N"]}, "options.lexicon[0]"),
        ({"lexicon": ["S"] * 1025}, "options.lexicon"),
        ({"lexicon": ["S"], "prefix": "N"}, "options.lexicon"),
        ({"no_repeat_ngram": -1}, "options.no_repeat_ngram"),
        ({"no_repeat_ngram": 7}, "options.no_repeat_ngram"),
        ({"loop_repeats": 1}, "options.loop_repeats"),
        ({"loop_repeats": 7}, "options.loop_repeats"),
        ({"alternatives": 9}, "options.alternatives"),
    ],
    ids=str,
)
def test_what_is_out_of_bounds_names_its_field(fields, field):
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    [violation] = caught.value.violations
    assert violation.field == field


def test_a_lexicon_of_too_many_tokens(monkeypatch):
    monkeypatch.setattr(requests, "MAX_LEXICON_TOKENS", 4)
    assert unpack(read(lexicon=["S N", "N S", "S N"]).lexicon) == [(2, 3), (3, 2)]
    with pytest.raises(InvalidRequest, match="5 tokens in all"):
        read(lexicon=["S N", "N S", "S"])


def test_priority():
    assert [requests.priority(value) for value in (-10, 0, 10)] == [-10, 0, 10]
    for value in (-11, 11):
        with pytest.raises(InvalidRequest, match="priority"):
            requests.priority(value)


async def targets(*texts: str, inputs: int | None = None) -> list:
    request = pb.ScoreRequest(inputs=["x"] * (len(texts) if inputs is None else inputs), targets=texts)
    return await requests.targets(request, model())


async def test_targets_and_what_is_wrong_with_one_of_them():
    first, bad, last = await targets("S N", "S X", "OW")
    assert (first, last) == ((2, 3), (4,))
    assert bad.violations[0].field == "targets[1]"


async def test_targets_that_cannot_be_scored_at_all():
    with pytest.raises(InvalidRequest, match=r"targets\[0\]"):
        await targets("X")
    with pytest.raises(InvalidRequest, match="1 targets; as many as inputs \\(2\\)"):
        await targets("S", inputs=2)
    assert await targets() == []  # how many inputs there must be is said elsewhere
