"""Beam search: by hand, against every possible answer, and against greedy decoding."""

import itertools
import math

import numpy as np
import pytest
import torch

from training.beam import Beam, BeamOptions, Hypothesis, beam_search
from training.model import Seq2Seq
from training.recipe import Model

SOURCE = torch.tensor([[2, 3, 4, 5], [6, 7, 0, 0], [8, 0, 0, 0]])
LENGTHS = torch.tensor([4, 2, 1])


def row(*shares: float) -> list[float]:
    return [math.log(share) for share in shares]


def test_a_beam_by_hand() -> None:
    """<E> is token 0. Each finished hypothesis takes a place away."""
    beam = Beam(BeamOptions(width=3, n_best=3, max_length=9))
    assert beam.advance(np.array([row(0.1, 0.5, 0.4)], np.float32)) == [(0, 1), (0, 2)]
    assert [hypothesis.ids for hypothesis in beam.finished] == [(0,)]  # and 2 places are left
    log_probs = np.array([row(0.4, 0.1, 0.5), row(0.3, 0.6, 0.1)], np.float32)
    assert beam.advance(log_probs) == [(0, 2), (1, 1)]  # 0.25 and 0.24; (1, 0) with 0.2 is out
    assert beam.advance(np.array([row(0.1, 0.3, 0.6), row(0.9, 0.05, 0.05)], np.float32)) == [(0, 2)]
    assert [hypothesis.ids for hypothesis in beam.finished] == [(0,), (2, 1, 0)]
    assert beam.advance(np.array([row(0.9, 0.05, 0.05)], np.float32)) == []
    ranked = beam.ranking()
    assert [hypothesis.ids for hypothesis in ranked] == [(2, 1, 0), (1, 2, 2, 0), (0,)]
    assert [math.exp(h.score) for h in ranked] == pytest.approx([0.4 * 0.6 * 0.9, 0.5 * 0.5 * 0.6 * 0.9, 0.1])


def test_length_counts_as_much_as_asked() -> None:
    ended = [Hypothesis((1, 0), (), -2.0), Hypothesis((1, 2, 2, 0), (), -3.0)]
    for penalty, best in ((0.0, 0), (1.0, 1)):
        beam = Beam(BeamOptions(width=2, n_best=2, length_penalty=penalty))
        beam.finished = ended
        assert beam.ranking()[0] is ended[best]


def test_ties_go_to_the_lower_parent_then_token_then_to_who_finished_first() -> None:
    beam = Beam(BeamOptions(width=3, n_best=3, max_length=2))
    assert beam.advance(np.array([row(1e-9, 0.25, 0.25, 0.25)], np.float32)) == [(0, 1), (0, 2), (0, 3)]
    assert beam.advance(np.full((3, 4), math.log(0.25), np.float32)) == []
    assert [hypothesis.ids for hypothesis in beam.ranking()] == [(1, 0), (1, 1), (1, 2)]


def test_at_the_longest_the_live_ones_are_finished_too() -> None:
    beam = Beam(BeamOptions(width=2, n_best=2, max_length=1))
    assert beam.advance(np.array([row(0.3, 0.1, 0.6)], np.float32)) == []
    assert [hypothesis.ids for hypothesis in beam.ranking()] == [(2,), (0,)]


@pytest.mark.parametrize(("penalty", "goes_on"), [(0.0, []), (1.0, [(0, 1), (0, 2)])])
def test_it_ends_as_soon_as_nothing_can_change(penalty: float, goes_on: list[tuple[int, int]]) -> None:
    """0.6 has ended, and what is left has 0.2; by the mean a token, a longer one might still win."""
    beam = Beam(BeamOptions(width=3, n_best=1, length_penalty=penalty, max_length=20))
    assert beam.advance(np.array([row(0.6, 0.2, 0.2)], np.float32)) == goes_on
    assert beam.ranking()[0].ids == (0,)


def network(seed: int = 7, **sizes: object) -> Seq2Seq:
    torch.manual_seed(seed)
    model = Seq2Seq(9, 5, Model(embedding_size=6, hidden_size=8, **sizes)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(2)  # spread the answers
    return model


KINDS = [{}, {"attention": "general"}, {"attention": "dot", "input_feeding": True}, {"cell": "gru"}]


@pytest.mark.parametrize("sizes", KINDS, ids=str)
@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_a_beam_as_wide_as_everything_finds_the_best_of_everything(
    sizes: dict[str, object], penalty: float
) -> None:
    model, longest = network(**sizes), 4
    found = beam_search([model], SOURCE, LENGTHS, BeamOptions(500, 5, penalty, longest))
    for index in range(3):
        true = []
        for length in range(1, longest + 1):
            every = torch.tensor(
                [
                    ids
                    for ids in itertools.product(range(4), repeat=length)
                    if 0 not in ids[:-1] and (ids[-1] == 0 or length == longest)
                ]
            )
            read = torch.cat((torch.full((len(every), 1), model.start_id), every[:, :-1]), 1)
            rows = torch.full((len(every),), index)
            log_probs = model(SOURCE[rows], LENGTHS[rows], read).log_softmax(2)
            scores = log_probs.gather(2, every.unsqueeze(2)).sum((1, 2))
            normalised = (scores / length**penalty).tolist()
            true += zip(normalised, map(tuple, every.tolist()), strict=True)
        best = sorted(true, reverse=True)[:5]
        assert [hypothesis.ids for hypothesis in found[index]] == [ids for _, ids in best]
        for hypothesis, (score, _) in zip(found[index], best, strict=True):
            assert hypothesis.normalised(penalty) == pytest.approx(score, abs=1e-5)
            assert hypothesis.score == sum(hypothesis.scores)


@pytest.mark.parametrize("sizes", KINDS, ids=str)
def test_a_beam_of_one_is_greedy(sizes: dict[str, object]) -> None:
    model = network(**sizes)
    greedy = model.greedy(SOURCE, LENGTHS, 6)
    for (best,), (ids, scores) in zip(
        beam_search([model], SOURCE, LENGTHS, BeamOptions(max_length=6)), greedy, strict=True
    ):
        assert list(best.ids) == ids
        assert best.scores == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("width", [2, 3, 5])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_ending_early_changes_nothing(width: int, penalty: float, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [network(seed) for seed in range(8)]
    options = BeamOptions(width, min(2, width), penalty, 12)
    early = [beam_search([model], SOURCE, LENGTHS, options) for model in models]
    monkeypatch.setattr(Beam, "_is_decided", lambda beam: False)
    assert [beam_search([model], SOURCE, LENGTHS, options) for model in models] == early


def test_ending_too_early_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the test above."""
    models = [network(seed) for seed in range(8)]
    options = BeamOptions(5, 2, 1.0, 12)
    true = [beam_search([model], SOURCE, LENGTHS, options) for model in models]
    monkeypatch.setattr(Beam, "_is_decided", lambda beam: len(beam.finished) >= 2)
    assert [beam_search([model], SOURCE, LENGTHS, options) for model in models] != true


def test_of_several_models_the_mean_probability_decides() -> None:
    models = [network(1), network(2, attention="general")]
    (best,) = beam_search(models, SOURCE[:1], LENGTHS[:1], BeamOptions(max_length=6))[0]
    read = torch.tensor([[models[0].start_id, *best.ids[:-1]]])
    each = [model(SOURCE[:1], LENGTHS[:1], read)[0].softmax(1) for model in models]
    mean = (each[0] + each[1]) / 2
    assert mean.argmax(1).tolist() == list(best.ids)
    assert best.scores == pytest.approx(mean.max(1).values.log().tolist(), abs=1e-5)
