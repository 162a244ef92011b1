"""The error rates of a model card."""

import pytest

from bundle.card import Score
from export.scores import error_rates
from training.recipe import RECIPES, load_recipe


@pytest.mark.parametrize(("recipe", "token"), [("names-ar-en", "CER"), ("g2p-en-tiny", "PER")])
def test_the_rate_of_single_tokens_goes_by_what_they_are(recipe: str, token: str) -> None:
    found = error_rates(load_recipe(RECIPES / f"{recipe}.toml"), "test", 12.345, 6.789, 10, "greedy")
    assert found == (
        Score(dataset="test", metric="WER", value=12.35, sources=10, decoding="greedy"),
        Score(dataset="test", metric=token, value=6.79, sources=10, decoding="greedy"),
    )
