"""Every search against its slow twin, over random models, options alone and mixed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from service.decoding import beam, branch, constraints, sampling
from service.options import Options, Sampling, pack
from tests.service import slow_decoding as slow
from tests.service.decoding_cases import cases, decode
from training.beam import Beam as OfflineBeam
from training.beam import BeamOptions


def plainly(options: Options, model: slow.Model) -> list[slow.Answer]:
    """The same by the slow twins."""
    if options.sampling:
        return [slow.single(options, model, drawing(options.sampling))]
    if options.beam_size == 1:
        return [slow.single(options, model, slow.best_of)]
    if slow.smallest_margin(options, model) >= options.cascade_margin > 0:
        return [slow.single(options, model, slow.best_of)]
    return slow.beam(options, model)


def drawing(how: Sampling):
    def draw(open_: dict[int, float], position: int) -> int:
        best_first = sorted(open_, key=lambda token: (-open_[token], token))[: how.top_k or None]
        most = open_[best_first[0]]
        weights = [math.exp((open_[token] - most) / how.temperature) for token in best_first]
        kept, mass = [], 0.0
        for weight in weights:
            kept.append(weight)
            mass += weight
            if mass >= how.top_p * sum(weights):
                break
        point = sampling.uniform(how.seed, position) * mass
        for token, weight in zip(best_first, kept, strict=False):
            point -= weight
            if point < 0:
                return token
        return best_first[len(kept) - 1]

    return draw


def agree(options: Options, size: int, model: slow.Model) -> bool:
    found = decode(options, size, model)
    return [(h.tokens, h.scores, h.reason) for h in found] == plainly(options, model)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_every_search_agrees_with_its_slow_twin(case):
    assert agree(*case)


ALONE = {
    "beam": Options(6, beam_size=4, n_best=4),
    "narrow beam": Options(6, beam_size=2, length_penalty=1.0),
    "wide beam": Options(4, beam_size=20, n_best=20, length_penalty=0.6),
    "cascade": Options(6, beam_size=4, cascade_margin=0.3),
    "sampling": Options(6, sampling=Sampling(seed=7)),
    "top_k": Options(6, sampling=Sampling(seed=7, top_k=3)),
    "top_p": Options(6, sampling=Sampling(seed=7, temperature=0.8, top_p=0.6)),
    "min_length": Options(6, min_length=5),
    "prefix": Options(6, prefix=(3, 3, 1)),
    "allowed": Options(6, allowed=(1, 5, 9)),
    "banned": Options(6, banned=(1, 2, 3, 4, 5, 6)),
    "biases": Options(6, biases=((0, -3.0), (4, 2.0))),
    "lexicon": Options(6, lexicon=pack([(1, 2, 3), (1, 2), (4,), ()])),
    "no_repeat_ngram": Options(9, no_repeat_ngram=1, min_length=9),
    "loop_repeats": Options(9, loop_repeats=2, allowed=(1, 2), min_length=9),
}


@pytest.mark.parametrize("options", ALONE.values(), ids=ALONE)
def test_each_option_alone(options):
    for seed in range(40):
        assert agree(options, 12, slow.random_model(12, seed, with_ties=seed % 2 == 1))


@pytest.mark.parametrize(
    ("place", "name", "broken", "options"),
    [
        (constraints.Constraints, "_closed_after", lambda *_: frozenset(), "min_length"),
        (constraints.Constraints, "_closed_after", lambda *_: frozenset(), "banned"),
        (constraints, "_repeating", lambda tokens, n: tokens[-1:], "no_repeat_ngram"),
        (constraints, "_only", lambda _, ranking: ranking, "lexicon"),
        (constraints, "END", 1, "allowed"),
        (branch, "is_loop", lambda *_: False, "loop_repeats"),
        (beam.Beam, "_is_decided", lambda self: bool(self._finished), "beam"),
        (beam.Beam, "_candidates", lambda self, rows, k: self._listed_candidates(rows, 1), "beam"),
        (beam.Beam, "_ranking", lambda self: self._finished, "narrow beam"),
        (sampling, "uniform", lambda *_: 0.5, "sampling"),
    ],
)
def test_a_broken_search_is_found_out(monkeypatch, place, name, broken, options):
    constraints.constraints_of.cache_clear()
    models = [slow.random_model(12, seed) for seed in range(40)]
    wanted = [plainly(ALONE[options], model) for model in models]
    monkeypatch.setattr(place, name, broken)
    found = [decode(replace(ALONE[options]), 12, model) for model in models]
    constraints.constraints_of.cache_clear()
    assert [[(h.tokens, h.scores, h.reason) for h in hypotheses] for hypotheses in found] != wanted


@pytest.mark.parametrize("length_penalty", [0.0, 0.5, 1.0])
def test_a_beam_with_room_for_everything_finds_the_best_of_all_answers(length_penalty):
    for seed in range(20):
        model = slow.random_model(3, seed)
        everything = sorted(
            (-total / length**length_penalty, answer)
            for total, length, answer in slow.every_answer(3, 4, model)
        )
        options = Options(4, beam_size=len(everything), n_best=7, length_penalty=length_penalty)
        found = decode(options, 3, model)
        assert [(h.tokens, h.scores, h.reason) for h in found] == [answer for _, answer in everything[:7]]


@pytest.mark.parametrize("length_penalty", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("width", "n_best"), [(2, 1), (5, 5), (12, 3)])
def test_the_offline_beam_says_the_same(width, n_best, length_penalty):
    for seed in range(20):
        model = slow.random_model(12, seed, with_ties=seed % 2 == 1)
        offline = OfflineBeam(BeamOptions(width, n_best, length_penalty, max_length=7))
        live: list[tuple[int, ...]] = [()]
        while live:
            kept = offline.advance(np.stack([model(tokens) for tokens in live]))
            live = [(*live[parent], token) for parent, token in kept]
        options = Options(7, beam_size=width, n_best=n_best, length_penalty=length_penalty)
        found = decode(options, 12, model)
        wanted = offline.ranking()
        ids = [(*h.tokens, *[0][: h.reason == "eos"]) for h in found]
        assert ids == [h.ids for h in wanted]
        assert [(tuple(h.scores), h.score) for h in found] == [(h.scores, h.score) for h in wanted]
        assert [h.normalised for h in found] == [h.normalised(length_penalty) for h in wanted]
