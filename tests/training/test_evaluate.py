"""Error rates, by numbers worked out by hand."""

import pytest
import torch

from bundle.text import SourceText, TargetText, build_source, build_target
from training.evaluate import Scores, answer, evaluate
from training.model import Seq2Seq
from training.recipe import Model

TEXTS = SourceText(build_source(list("wxyz"), "char")), TargetText(build_target(list("ABCDE"), "word"))
ANSWERS = {"w": "A B C", "x": "A B", "y": "D", "z": ""}


class Oracle:
    """Answers what the table says, whatever the batch."""

    def greedy(
        self, source: torch.Tensor, lengths: torch.Tensor, max_length: int
    ) -> list[tuple[list[int], list[float]]]:
        words = [TEXTS[0].tokens[row[0]] for row in source.tolist()]
        return [([*TEXTS[1].encode(ANSWERS[word]), 0], []) for word in words]


@pytest.mark.parametrize(
    ("grouped", "wer", "per"),
    [
        ({"w": ("A B C",)}, 0, 0),
        ({"w": ("A B D",)}, 100, 100 * 1 / 3),
        ({"w": ("E E E", "A B C")}, 0, 0),  # any target will do
        ({"w": ("A E E E", "A B C D")}, 100, 100 * 1 / 4),  # the closest counts, over its own length
        ({"w": ("A B C",), "x": ("A B C",), "y": ("A D", "E")}, 100 * 2 / 3, 100 * (0 + 1 + 1) / (3 + 3 + 2)),
        ({"z": ("A B",)}, 100, 100),  # nothing said: two left out
        ({"": ("A B",), "w": ("A B C",)}, 50, 100 * 2 / 5),  # nothing to read: nothing said
        ({"": ("A B",)}, 100, 100),
    ],
)
def test_error_rates(grouped: dict[str, tuple[str, ...]], wer: float, per: float) -> None:
    found = evaluate(Oracle(), grouped, TEXTS, 9)  # type: ignore[arg-type]
    assert found == Scores(pytest.approx(wer), pytest.approx(per), len(grouped))


def test_answers_come_in_the_order_of_their_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.evaluate.BATCH", 2)
    torch.manual_seed(1)
    model = Seq2Seq(9, 7, Model(embedding_size=6, hidden_size=8)).eval()
    sources = [[2, 3, 4, 5], [6], [7, 8], [2, 2, 2], [3]]
    for found, alone in zip(
        answer(model, sources, 5), (answer(model, [s], 5)[0] for s in sources), strict=True
    ):
        assert found[0] == alone[0]
        assert found[1] == pytest.approx(alone[1], abs=1e-5)
