"""The error rates of a model card."""

from pathlib import Path

import pytest

from bundle.card import Score
from bundle.reader import read_bundle
from export.__main__ import main
from export.scores import error_rates
from training.evaluate import Scores
from training.recipe import RECIPES, load_recipe


@pytest.mark.parametrize(("recipe", "token"), [("names-ar-en", "CER"), ("g2p-en-tiny", "PER")])
def test_the_rate_of_single_tokens_goes_by_what_they_are(recipe: str, token: str) -> None:
    measured, within = Scores(12.345, 6.789, 10), ((11.111, 13.579), (6.0, 7.777))
    found = error_rates(measured, within, load_recipe(RECIPES / f"{recipe}.toml"), "test", "greedy")
    here = {"dataset": "test", "sources": 10, "decoding": "greedy"}
    assert found == (
        Score(metric="WER", value=12.35, interval_95=(11.11, 13.58), **here),
        Score(metric=token, value=6.79, interval_95=(6.0, 7.78), **here),
    )


def test_a_profiles_rates_have_intervals(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("chair\tT1 T2\nlift\tT3\nsnow\tT4 T5 T6\n")
    command = [tiny_run, "--name", "tiny", "--version", 1, "--to", tmp_path, "--score", tmp_path / "test.tsv"]
    assert main(list(map(str, command))) == 0
    scores = read_bundle(tmp_path / "tiny" / "1").manifest.card.scores
    assert [score.metric for score in scores] == ["WER", "PER"]
    for score in scores:
        assert score.interval_95 is not None
        low, high = score.interval_95
        assert low <= score.value <= high
    assert scores[1].interval_95[0] < scores[1].interval_95[1]
