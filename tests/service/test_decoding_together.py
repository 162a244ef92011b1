"""Searches in company find what they find alone, and draws in company are those drawn alone, bit for bit."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.decoding import sampling, single, together
from service.decoding.search import Search
from service.options import Options, Sampling, pack
from tests.service import slow_decoding as slow
from tests.service.decoding_cases import SIZES, begin, cases, decode, distributions

SIZE = 12
Case = tuple[Options, int, slow.Model]
WEIGHING = {
    "sampling": Options(9, sampling=Sampling(seed=5)),
    "top_k and top_p": Options(9, sampling=Sampling(seed=6, temperature=1.5, top_k=5, top_p=0.8)),
    "sampling and all else": Options(
        9, 3, sampling=Sampling(7), prefix=(4,), banned=(5,), biases=((2, 1.0),), alternatives=3
    ),
    "sampling of few": Options(9, sampling=Sampling(8), allowed=(1, 2), loop_repeats=2),
    "biases": Options(9, min_length=5, biases=((0, -3.0), (4, 2.0))),
    "allowed": Options(9, allowed=(1, 5, 9), partial_on_deadline=True),
    "lexicon": Options(9, lexicon=pack([(1, 2, 3), (1, 2), (4,), ()]), biases=((2, -1.0),)),
    "sampling from a lexicon": Options(9, 2, sampling=Sampling(9), lexicon=pack([(1, 2, 3), (1, 2), (4,)])),
    "sampling without repetition": Options(9, sampling=Sampling(9), no_repeat_ngram=1),
    "biases without repetition": Options(9, no_repeat_ngram=2, biases=((2, 3.0),)),
}
ALONE = {
    "plain": Options(9),
    "banned": Options(9, min_length=3, banned=(1, 2, 3, 4, 5, 6)),
    "alternatives": Options(9, alternatives=2),
    "cascade": Options(9, beam_size=3, cascade_margin=0.3, biases=((4, 2.0),)),
    "prefix": Options(9, prefix=(1, 2), banned=(3,)),
    "no_repeat_ngram": Options(9, no_repeat_ngram=1),
}
BEAM = Options(9, beam_size=4, n_best=2, alternatives=2)


def in_company(group: list[Case], few: int = 1, room: int = 1 << 14) -> list[list[object]]:
    """The answers where three come at a time, and all who are there take each step together.

    A cascade may go on with its beam.
    """
    searches: dict[int, Search] = {}
    live: dict[int, list[tuple[int, ...]]] = {}
    answers: list[list[object]] = [[] for _ in group]
    coming = list(range(len(group)))
    while coming or searches:
        for place in coming[:3]:
            searches[place], live[place] = begin(*group[place][:2]), [()]
        coming = coming[3:]
        parts = [distributions(group[place][2], live[place]) for place in searches]
        said = together.Distributions(
            np.concatenate([part.log_probs for part in parts]),
            [tokens for part in parts for tokens in part.top_tokens],
            [scores for part in parts for scores in part.top_scores],
        )
        with patch.multiple(together, FEW=few, ROOM=room):
            counts = [len(live[place]) for place in searches]
            decided = together.advance(list(searches.values()), counts, said)
        for place, step in zip(list(searches), decided, strict=True):
            assert step is not None
            live[place] = [(*live[place][parent], token) for parent, token in zip(*step, strict=True)]
            if not live[place] and (again := searches[place].again):
                searches[place], live[place] = again, [()]
            elif not live[place]:
                answers[place] = searches.pop(place).hypotheses
    return answers


def alone(group: list[Case]) -> list[list[object]]:
    return [decode(*case) for case in group]


def crowd(kinds: dict[str, Options], seed: int = 0) -> list[Case]:
    """Some of each, each with a model and, where it draws, a seed of its own."""
    group = []
    for number, options in enumerate([*kinds.values()] * 4):
        how = options.sampling and replace(options.sampling, seed=100 * seed + number)
        model = slow.random_model(SIZE, 50 * seed + number, with_ties=number % 2 == 1)
        group.append((replace(options, sampling=how), SIZE, model))
    return group


EVERYBODY = WEIGHING | ALONE | {"beam": BEAM}


@settings(max_examples=75, deadline=None)
@given(
    SIZES.flatmap(lambda size: st.lists(cases(st.just(size)), min_size=1, max_size=9)),
    st.sampled_from([1, 4]),
    st.sampled_from([24, 1 << 14]),
)
def test_an_answer_is_the_same_in_company_as_alone(group, few, room):
    assert in_company(group, few, room) == alone(group)


@pytest.mark.parametrize("seed", range(10))
def test_every_kind_beside_every_other(seed):
    group = crowd(EVERYBODY, seed)
    assert in_company(group) == in_company(group, room=5 * SIZE) == alone(group)


@pytest.mark.parametrize("options", [*WEIGHING.values(), *ALONE.values()], ids=[*WEIGHING, *ALONE])
def test_who_weighs_together(options):
    assert (begin(options, SIZE).offsets is not None) == (options in WEIGHING.values())


def test_what_throws_together_is_decided_alone(monkeypatch, caplog):
    group = crowd(EVERYBODY)
    monkeypatch.setattr(together, "draw_many", lambda *_: 1 / 0)
    assert in_company(group) == alone(group)
    assert "searches failed together" in caplog.text


BROKEN = {
    "one seed for all": (
        together,
        "draw_many",
        lambda r, how, at: sampling.draw_many(r, how[:1] * len(how), at),
    ),
    "one position": (together, "draw_many", lambda r, how, at: sampling.draw_many(r, how, at[:1] * len(at))),
    "another's row": (together, "draw_many", lambda r, *how: sampling.draw_many(np.roll(r, 1, axis=0), *how)),
    "an early end": (single.Single, "offsets", property(lambda self: self._constraints._offsets)),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_company_that_changes_an_answer_is_seen(monkeypatch, broken):
    """Negative controls."""
    group = crowd(EVERYBODY)
    true = alone(group)
    monkeypatch.setattr(*broken)
    assert in_company(group) != true


# Draws


def some_rankings(chance: np.random.Generator, rows: int, size: int) -> np.ndarray:
    """In some rows there are ties, in some all but a few tokens may not come."""
    found = chance.normal(0, chance.choice([0.1, 3, 50]), (rows, size))
    if chance.random() < 0.5:
        found = np.round(found)
    found[chance.random(found.shape) < chance.choice([0, 0.3, 0.99])] = -np.inf
    found[np.arange(rows), chance.integers(size, size=rows)] = chance.normal()  # one may come
    return found


def some_sampling(chance: np.random.Generator, size: int) -> Sampling:
    return Sampling(
        int(chance.integers(2**64, dtype=np.uint64)),
        float(chance.choice([0.01, 0.3, 1, 100])),
        int(chance.choice([0, 1, *chance.integers(1, size + 5, size=2)])),
        float(chance.choice([1, 1e-9, *chance.random(2)])),
    )


def test_draws_of_many_are_those_of_each():
    chance, seen = np.random.default_rng(3), set()
    for _ in range(1500):
        rows, size = int(chance.integers(1, 10)), int(chance.integers(1, 90))
        rankings = some_rankings(chance, rows, size)
        how = [some_sampling(chance, size) for _ in range(rows)]
        positions = chance.integers(200, size=rows).tolist()
        wanted = list(map(sampling.draw, rankings, how, positions))
        assert sampling.draw_many(rankings, how, positions).tolist() == wanted
        seen.update(wanted)
    assert len(seen) > 80


def test_sums_of_many_rows_are_those_of_each():
    """What the draws lean on: exponentials and running sums of a row do not depend on what is around it."""
    chance = np.random.default_rng(4)
    for size in (1, 2, 7, 8, 9, 41, 100, 1000):
        costs = chance.normal(0, 5, (13, size))
        sums = np.cumsum(np.exp(costs), axis=1)
        for row, end in enumerate(chance.integers(1, size + 1, size=13)):
            assert np.cumsum(np.exp(costs[row, :end])).tolist() == sums[row, :end].tolist()


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 10**6)), min_size=1))
def test_random_numbers_of_many_are_those_of_each(asked):
    seeds, positions = (np.array(column, np.uint64) for column in zip(*asked, strict=True))
    wanted = [sampling.uniform(seed, position) for seed, position in asked]
    assert sampling.uniform(seeds, positions).tolist() == wanted
