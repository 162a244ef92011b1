"""Every kind of network through the real service. `--every-network`: all of them, with a thousand words."""

import copy
import random

import pytest

from tests.service.conftest import Start
from tests.service.networks import EVERY, FEW, LOOKS, Kind, aligned, exported
from training.cells import CELLS
from training.evaluate import answer

FEW_WORDS = 36
LETTERS = "abcdefghijklmnopqrstuvwxyz'"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    kinds = EVERY if metafunc.config.getoption("--every-network") else FEW
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", kinds, ids=lambda kind: "-".join(map(str, kind)))


@pytest.fixture(scope="module")
def words(request: pytest.FixtureRequest) -> list[str]:
    """Of every length, the same ones every time."""
    chance = random.Random(5)
    count = 1000 if request.config.getoption("--every-network") else FEW_WORDS
    return ["".join(chance.choices(LETTERS, k=chance.randint(1, 24))) for _ in range(count)]


def test_the_few_are_of_every_cell_look_and_shape() -> None:
    cells, looks, shapes = map(set, zip(*FEW, strict=True))
    assert (cells, looks, shapes) == (set(CELLS), set(LOOKS), {0, 1, 2})


async def test_tokens_and_alignments_are_pytorchs(
    start: Start, kind: Kind, words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    bundle, network = exported(tmp_path_factory.getbasetemp(), kind)
    service = await start(bundle=bundle, max_rows=16)
    attends = bundle.manifest.architecture.attention != "none"
    response = await service.ask(*words, seconds=100, log_probabilities=True, alignments=attends)
    sources = [bundle.source.encode(word) for word in words]
    longest = bundle.manifest.limits.max_target_length
    expected = answer(network, sources, longest)
    exact = answer(copy.deepcopy(network).double(), sources, longest)
    sure = [number for number in range(len(words)) if expected[number][0] == exact[number][0]]
    assert len(sure) > 0.98 * len(words), "in the others PyTorch's own rounding decides: weights are random"
    for number in sure:
        source = sources[number]
        (tokens, scores), [found] = expected[number], response.results[number].generation.hypotheses
        assert found.token_ids == [token for token in tokens if token]
        assert found.log_probabilities == pytest.approx(scores, abs=1e-4)
        if attends and number < FEW_WORDS:  # PyTorch aligns them one by one
            wanted = aligned(network, source, found.token_ids)[: len(tokens)]
            assert len(found.alignments) == len(wanted)
            for alignment, weights in zip(found.alignments, wanted, strict=True):
                assert alignment.weights == pytest.approx(weights, abs=1e-4)
    assert len({tuple(tokens) for tokens, _ in expected}) > FEW_WORDS / 10, "too much alike to prove anything"


async def test_whole_numbers_answer_alike_alone_and_together(
    start: Start, kind: Kind, words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    bundle, _ = exported(tmp_path_factory.getbasetemp(), kind)
    service = await start(bundle=bundle, profile="int8", max_rows=16)
    asked = {"log_probabilities": True, "alignments": bundle.manifest.architecture.attention != "none"}
    together = (await service.ask(*words, **asked)).results
    alone = [(await service.ask(word, **asked)).results[0] for word in words[:FEW_WORDS]]
    assert alone == list(together)[:FEW_WORDS]
