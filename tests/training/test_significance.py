"""Intervals and comparisons, against what is known of them."""

import math

import pytest

from training.evaluate import Verdict, score
from training.significance import Comparison, compare, intervals


def verdicts(distances: list[int]) -> list[Verdict]:
    return [Verdict(f"s{n}", "", "", distance, 5) for n, distance in enumerate(distances)]


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    found = verdicts([1] * 300 + [0] * 700)
    wer, per = intervals(found)
    spread = 1.96 * math.sqrt(0.3 * 0.7 / 1000) * 100
    assert wer == pytest.approx((30 - spread, 30 + spread), abs=0.4)
    assert per == pytest.approx((6 - spread / 5, 6 + spread / 5), abs=0.08)
    assert intervals(found) == intervals(found)


def test_a_certain_rate_has_no_interval() -> None:
    assert intervals(verdicts([0] * 50)) == ((0.0, 0.0), (0.0, 0.0))


def test_pairs_are_drawn_together() -> None:
    """Two models that err on nearly the same sources differ by less than their own intervals tell."""
    first, second = verdicts([1] * 310 + [0] * 690), verdicts([2] * 300 + [0] * 700)
    found = compare(first, second)
    assert (found.wer, found.per) == pytest.approx((1.0, 100 * (310 - 600) / 5000))
    assert found.wer == pytest.approx(score(first).wer - score(second).wer)
    low, high = found.wer_interval
    assert 0.3 < low < 1.0 < high < 1.8
    assert (found.only_first_wrong, found.only_second_wrong) == (10, 0)
    unpaired = compare(first, verdicts([0] * 700 + [2] * 300)).wer_interval  # negative control
    assert unpaired[1] - unpaired[0] > 3 * (high - low)


@pytest.mark.parametrize(
    ("first", "second", "chance"),
    [(0, 0, 1.0), (3, 3, 1.0), (10, 0, 2 / 2**10), (1, 5, 2 * (1 + 6) / 2**6), (5, 1, 2 * (1 + 6) / 2**6)],
)
def test_the_sign_test(first: int, second: int, chance: float) -> None:
    assert Comparison(0, 0, (0, 0), (0, 0), first, second).chance == pytest.approx(chance)


def test_the_sign_test_with_many_sources() -> None:
    assert Comparison(0, 0, (0, 0), (0, 0), 1500, 1500).chance == 1.0
    assert Comparison(0, 0, (0, 0), (0, 0), 1000, 2000).chance < 1e-70


def test_other_sources_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same sources"):
        compare(verdicts([1, 0]), verdicts([1]))
