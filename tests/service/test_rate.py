"""How long a wait will be, from what was seen lately."""

import pytest

from service.rate import FinishRate


def test_a_rate_counts_busy_time_alone():
    rate = FinishRate()
    assert rate.seconds_for(5) == 0, "nobody can tell yet"
    for _ in range(100):
        rate.observe(1.0, 2)
    assert rate.seconds_for(4) == pytest.approx(2.0)
    for _ in range(300):
        rate.observe(1.0, 20)
    assert rate.seconds_for(20) == pytest.approx(1.0, rel=0.5), "what was long ago counts less"
