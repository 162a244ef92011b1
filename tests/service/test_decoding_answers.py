"""What searches hand over: what is final, cut off, forced, scored, drawn, or nowhere to be found."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.decoding import sampling
from service.decoding.search import search_for
from service.options import Options, Sampling, forced, pack
from tests.service import slow_decoding as slow
from tests.service.decoding_cases import cases, decode, run


@settings(max_examples=75, deadline=None)
@given(cases())
@example((Options(6, beam_size=3), 12, slow.random_model(12, 1)))
def test_what_is_final_is_never_taken_back(case):
    options, size, model = case
    search = search_for(options, size)
    if search is None:
        return
    seen = list(run(search, model))
    if search.again:
        assert not any(seen)
        return
    best = search.hypotheses[0]
    for final in (*seen, search.final):
        assert final == best.tokens[: len(final)]
    assert search.final == best.tokens
    assert search.final_scores == best.scores[: len(best.tokens)]


def test_a_beam_says_what_is_final_before_its_end():
    model = slow.random_model(12, 3)
    search = search_for(Options(12, beam_size=2, min_length=12), 12)
    lengths = [len(final) for final in run(search, model)]
    assert lengths == sorted(lengths)
    assert 0 < lengths[-2] < 12


@settings(max_examples=75, deadline=None)
@given(cases(), st.integers(0, 5))
def test_a_deadline_makes_the_best_so_far_the_answer(case, steps):
    options, size, model = case
    search = search_for(options, size)
    if search is None:
        return
    for _ in zip(range(steps), run(search, model), strict=False):
        pass
    if search.hypotheses or search.again:
        return
    final = list(search.final)
    search.finish("deadline")
    assert 1 <= len(search.hypotheses) <= options.n_best
    reasons = [hypothesis.reason for hypothesis in search.hypotheses]
    assert reasons == sorted(reasons, key=lambda reason: reason == "deadline")  # whole ones first
    assert search.hypotheses[0].tokens[: len(final)] == final


def test_scores_are_the_models_own_and_the_ranking_counts_biases():
    model = slow.random_model(12, 5)
    options = Options(6, biases=((4, 3.0),), min_length=1, length_penalty=1.0)
    [hypothesis] = decode(options, 12, model)
    assert 4 in hypothesis.tokens
    path = [tuple(hypothesis.tokens[:i]) for i in range(len(hypothesis.scores))]
    chosen = [*hypothesis.tokens, 0][: len(path)]
    own = [float(model(before)[token]) for before, token in zip(path, chosen, strict=True)]
    assert hypothesis.scores == own
    assert hypothesis.score == pytest.approx(sum(own))
    biased = sum(own) + 3.0 * hypothesis.tokens.count(4)
    assert hypothesis.normalised == pytest.approx(biased / len(own))


def test_a_forced_target_is_scored_token_by_token_and_its_end_too():
    model = slow.random_model(12, 2)
    for target in ((), (3,), (5, 5, 1, 9)):
        [hypothesis] = decode(forced(target, 0), 12, model)
        assert (hypothesis.tokens, hypothesis.reason) == (list(target), "eos")
        whole = (*target, 0)
        assert hypothesis.scores == [float(model(whole[:i])[whole[i]]) for i in range(len(whole))]


@pytest.mark.parametrize("beam_size", [1, 3])
def test_alternatives_are_the_models_best_of_each_position(beam_size):
    model = slow.random_model(12, 4)
    hypotheses = decode(Options(5, beam_size=beam_size, n_best=beam_size, alternatives=3), 12, model)
    for hypothesis in hypotheses:
        assert len(hypothesis.alternatives) == len(hypothesis.scores)
        for position, best in enumerate(hypothesis.alternatives):
            log_probs = model(tuple(hypothesis.tokens[:position])).tolist()
            order = sorted(range(12), key=lambda token: (-log_probs[token], token))[:3]
            assert best == [(token, log_probs[token]) for token in order]


@pytest.mark.parametrize("options", [Options(6), Options(6, beam_size=3), Options(6, sampling=Sampling())])
def test_dead_ends_end_with_a_reason(options):
    model = slow.random_model(12, 1)
    stuck = replace(options, lexicon=pack([(1, 2)]), banned=(2,))
    assert [(h.tokens, h.reason) for h in decode(stuck, 12, model)] == [([1], "constraint")]
    at_once = replace(options, lexicon=pack([()]), min_length=1)
    [hypothesis] = decode(at_once, 12, model)
    assert (hypothesis.tokens, hypothesis.scores, hypothesis.reason) == ([], [], "constraint")
    assert (hypothesis.score, hypothesis.normalised) == (0.0, 0.0)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_loop_cuts_nothing_that_the_caller_spelled_out(beam_size):
    model = slow.random_model(12, 1)
    options = Options(6, beam_size=beam_size, loop_repeats=2)
    [begun] = decode(replace(options, prefix=(2, 2, 3)), 12, model)
    assert begun.tokens[:3] == [2, 2, 3]
    [chosen] = decode(replace(options, lexicon=pack([(2, 2, 3)])), 12, model)
    assert (chosen.tokens, chosen.reason) == ([2, 2, 3], "eos")
    [looped] = decode(replace(options, prefix=(2,), allowed=(2,), min_length=6), 12, model)
    assert (looped.tokens, looped.reason) == ([2, 2], "loop")


def test_a_beam_gives_up_dead_ends_where_another_way_leads_on():
    model = slow.random_model(12, 1)
    options = Options(6, beam_size=5, n_best=5, lexicon=pack([(1, 2), (3, 4)]), banned=(2,))
    assert [(h.tokens, h.reason) for h in decode(options, 12, model)] == [([3, 4], "eos")]


def test_plain_greedy_needs_no_search():
    assert search_for(Options(20), 12) is None
    assert search_for(Options(5, partial_on_deadline=True), 12) is None
    assert search_for(Options(5, min_length=1), 12) is None
    assert search_for(Options(5, min_length=1), 1) is not None  # nothing but <E> may come


def test_random_numbers_are_those_of_splitmix64():
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]  # seed 1234567
    assert [int(sampling.uniform(1234567, i) * 2**53) for i in range(3)] == [x >> 11 for x in published]
    assert 0 <= sampling.uniform(2**64 - 1, 10**9) < 1


def test_draws_follow_the_distribution():
    model = slow.random_model(6, 8)
    counts = np.zeros(6)
    draws = 4000
    for seed in range(draws):
        [hypothesis] = decode(Options(1, sampling=Sampling(seed)), 6, model)
        counts[(hypothesis.tokens or [0])[0]] += 1
    wanted = np.exp(model(()).astype(float))
    chi_square = (((counts - draws * wanted) ** 2) / (draws * wanted)).sum()
    assert chi_square < 20.5  # 5 degrees of freedom: one in a thousand is above; the seeds are fixed
