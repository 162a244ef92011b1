"""The card says how long the graphs took: by the clock, for each profile."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

import export.speed
from bundle.reader import read_bundle
from export.speed import ROWS, RUNS, WARM_UPS


def test_the_card_has_each_profiles_speed(tiny_models: Path) -> None:
    bundle = read_bundle(tiny_models / "tiny" / "1")
    speed = bundle.manifest.card.speed
    assert speed is not None
    assert (speed.threads, speed.source_length) == (1, 8)
    assert speed.machine and speed.runtime.startswith("ONNX Runtime ")
    profiles = [profile.name for profile in bundle.manifest.profiles]
    assert [(one.profile, one.rows) for one in speed.timings] == [
        (p, rows) for p in profiles for rows in ROWS
    ]
    assert all(one.source_microseconds > 0 and one.step_microseconds > 0 for one in speed.timings)


def test_the_median_run_counts_without_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of 9 seconds to warm up, then of 0, 1, 2, ... microseconds."""
    seconds = [9.0] * WARM_UPS + [1e-6 * number for number in range(RUNS)]
    clock = iter([time for run in seconds for time in (100.0, 100.0 + run)])
    monkeypatch.setattr(export.speed.time, "perf_counter", lambda: next(clock))
    assert export.speed._microseconds(lambda: None) == pytest.approx((RUNS - 1) / 2, abs=1e-3)
