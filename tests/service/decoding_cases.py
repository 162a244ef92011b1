"""Runs searches over models without an engine, and draws options at random."""

from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st
from msgspec.structs import replace

from service.decoding import constraints, single
from service.decoding.distributions import Distributions
from service.decoding.search import Search, search_for
from service.hypothesis import Hypothesis
from service.options import Options, Sampling, pack
from tests.service import slow_decoding as slow

SIZES = st.integers(3, 12)


def distributions(model: slow.Model, live: list[tuple[int, ...]]) -> Distributions:
    """What an engine would hand over for live hypotheses."""
    log_probs = np.stack([model(tokens) for tokens in live])
    order = np.argsort(-log_probs, axis=1, kind="stable")[:, :8]
    return Distributions(log_probs, order.tolist(), np.take_along_axis(log_probs, order, axis=1).tolist())


def run(search: Search, model: slow.Model) -> Iterator[list[int]]:
    """Runs a search to its end; yields what is final after each step."""
    live: list[tuple[int, ...]] = [()]
    while live:
        assert not search.hypotheses and len(live) <= search.width
        parents, tokens = search.advance(distributions(model, live))
        live = [(*live[parent], token) for parent, token in zip(parents, tokens, strict=True)]
        yield list(search.final)
    assert search.hypotheses or search.again


def begin(options: Options, size: int) -> Search:
    """The search for some options, plain ones too."""
    return search_for(options, size) or single.Single(options, constraints.Constraints(options, size))


def decode(options: Options, size: int, model: slow.Model) -> list[Hypothesis]:
    """The answer of the search for some options."""
    search = begin(options, size)
    for _ in run(search, model):
        pass
    if search.again:
        assert not search.final
        search = search.again
        for _ in run(search, model):
            pass
    return search.hypotheses


@st.composite
def cases(draw, sizes: st.SearchStrategy[int] = SIZES) -> tuple[Options, int, slow.Model]:
    size = draw(sizes)
    model = slow.random_model(size, draw(st.integers(0, 2**32)), draw(st.booleans()))
    token = st.integers(1, size - 1)
    max_length = draw(st.integers(1, 7))
    sequences = st.lists(token, max_size=max_length).map(tuple)
    biases = st.dictionaries(st.integers(0, size - 1), st.sampled_from([-2.0, -0.5, 1.5]))
    options = Options(
        max_length,
        min_length=draw(st.integers(0, max_length)),
        prefix=draw(st.just(()) | sequences),
        allowed=draw(st.just(()) | st.sets(token).map(tuple)),
        banned=draw(st.just(()) | st.sets(token).map(tuple)),
        biases=draw(st.just(()) | biases.map(lambda chosen: tuple(chosen.items()))),
        lexicon=draw(st.sets(sequences, max_size=6).map(pack)),
        no_repeat_ngram=draw(st.integers(0, 3)),
        loop_repeats=draw(st.sampled_from([0, 2, 3])),
    )
    kind = draw(st.sampled_from(["greedy", "beam", "cascade", "sampling"]))
    if kind == "sampling":
        top_p = draw(st.sampled_from([1.0, 0.7, 0.3]))
        how = Sampling(draw(st.integers(0, 2**64 - 1)), draw(st.sampled_from([0.3, 1.0, 2.0])), 0, top_p)
        options = replace(options, sampling=replace(how, top_k=draw(st.integers(0, size))))
    elif kind != "greedy":
        beam_size = draw(st.integers(2, 12))
        options = replace(
            options,
            beam_size=beam_size,
            n_best=draw(st.integers(1, beam_size)),
            length_penalty=draw(st.sampled_from([0.0, 0.7, 1.0])),
            cascade_margin=draw(st.sampled_from([0.1, 1.0])) if kind == "cascade" else 0.0,
        )
    return options, size, model
