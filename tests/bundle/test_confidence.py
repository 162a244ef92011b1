"""The formula of a confidence: against plain arithmetic, at its edges, and under label smoothing."""

import json
import math
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from bundle.card import Calibration, Precision
from bundle.confidence import confidence, curve, log_odds
from bundle.errors import BundleError
from bundle.manifest import Manifest, decode_manifest, encode_manifest

FITTED = Calibration(
    temperature=1.25,
    bias=0.5,
    smoothing=0.1,
    ceiling=0.95,
    profile="fp32",
    dataset="dev",
    sources=100,
    measured_on="test",
    measured_sources=100,
    expected_error=0.01,
    precisions=(),
)
PROMISE = Precision(confidence=0.9, coverage=0.4, precision=0.95)
MORE_PROMISED = Precision(confidence=0.95, coverage=0.2, precision=0.97)


def smoothed(probabilities: list[float], smoothing: float, emitted: int) -> list[float]:
    """What a model says that learnt from smoothed labels."""
    return [math.log(p * (1 - smoothing) + smoothing / emitted) for p in probabilities]


def test_it_is_the_formula() -> None:
    scores = [-0.2, -0.7, -0.12]
    right = math.prod((math.exp(score) - 0.1 / 40) / 0.9 for score in scores)
    odds = math.log(right / (1 - right))
    wanted = 0.95 / (1 + math.exp(-(odds / 1.25 + 0.5)))
    assert confidence(FITTED, scores, 40) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_what_smoothing_took_is_given_back(smoothing: float) -> None:
    probabilities = [0.9, 0.5, 0.99, 0.8]
    product = math.prod(probabilities)
    odds = log_odds(smoothed(probabilities, smoothing, 40), smoothing, 40)
    assert odds == pytest.approx(math.log(product / (1 - product)))


def test_without_that_a_long_answer_beyond_doubt_looks_unlikely() -> None:
    sure = smoothed([1.0] * 20, 0.1, 40)
    assert curve(log_odds(sure, 0.1, 40), 1, 0, 1) > 0.999999
    assert curve(log_odds(sure, 0.0, 40), 1, 0, 1) < 0.14


def test_it_ends_at_0_and_at_the_ceiling() -> None:
    assert confidence(FITTED, [0.0] * 3, 40) == pytest.approx(0.95, rel=1e-6)
    assert confidence(FITTED, [-0.0], 40) <= 0.95
    assert 0 <= confidence(FITTED, [-1e4] * 60_000, 40) < 1e-100
    assert log_odds([-1e4], 0.1, 40) == log_odds([-20.0], 0.1, 40) == pytest.approx(math.log(0.001 / 0.999))
    steep = msgspec.structs.replace(FITTED, bias=100.0)
    assert confidence(steep, [0.0], 40) == 0.95


def test_it_grows_with_each_score() -> None:
    found = [confidence(FITTED, [-0.2, score / 10], 40) for score in range(-60, 0)]
    assert all(low <= high for low, high in pairwise(found))
    assert found[0] < found[20] < found[-1]


def refusal(manifest: Manifest, path: str, value: Any) -> str:
    """What a reader says of a manifest with one wrong value in its calibration."""
    fitted = msgspec.structs.replace(
        FITTED, profile=manifest.profiles[0].name, precisions=(PROMISE, MORE_PROMISED)
    )
    fields = json.loads(encode_manifest(msgspec.structs.replace(manifest, calibration=fitted)))
    *parents, key = path.split(".")
    target = fields["calibration"]
    for parent in parents:
        target = target[int(parent) if parent.isdigit() else parent]
    target[key] = value
    with pytest.raises(BundleError, match=r"^manifest\.json: ") as caught:
        decode_manifest(json.dumps(fields).encode())
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("temperature", 0, "temperature"),
        ("temperature", 101, "temperature"),
        ("bias", -100.5, "bias"),
        ("smoothing", 1, "smoothing"),
        ("smoothing", -0.1, "smoothing"),
        ("ceiling", 0, "ceiling"),
        ("ceiling", 1.1, "ceiling"),
        ("profile", "fp16", "calibration.profile is fp16; "),
        ("sources", 0, "sources"),
        ("measured_sources", 0, "measured_sources"),
        ("expected_error", 1.1, "expected_error"),
        ("precisions.0.coverage", 0, "coverage"),
        ("precisions.0.precision", 1.1, "precision"),
        ("precisions.0.confidence", 0.95, "ascending ones are allowed"),
        ("surprise", 1, "surprise"),
    ],
)
def test_constants_of_no_sense_are_refused(manifest: Manifest, path: str, value: Any, says: str) -> None:
    assert says in refusal(manifest, path, value)


def test_a_manifest_without_one_is_whole(manifest: Manifest) -> None:
    assert decode_manifest(encode_manifest(manifest)).calibration is None
