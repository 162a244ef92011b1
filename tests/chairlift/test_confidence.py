"""What the client and the command line make of a confidence, and of its absence."""

from __future__ import annotations

import json

import pytest

from chairlift import Calibration, Client, Precision
from chairlift.v1 import seq2seq_pb2 as pb
from tests.chairlift import conftest
from tests.chairlift.test_command_line import run

PROMISES = (Precision(0.5, 0.75, 0.875), Precision(0.9, 0.5, 0.96875))
FITTED = Calibration(1.25, 0.5, 0.125, 0.9375, "int8", "dev", 40, "test", 50, 0.015625, PROMISES)


@pytest.fixture
def calibrated(server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's model has a calibration."""
    plain = conftest.model
    message = pb.Calibration(
        precisions=[
            pb.Precision(confidence=p.confidence, coverage=p.coverage, precision=p.precision)
            for p in PROMISES
        ],
        **{name: getattr(FITTED, name) for name in FITTED.__slots__ if name != "precisions"},
    )

    def model() -> pb.Model:
        described = plain()
        described.calibration.CopyFrom(message)
        return described

    monkeypatch.setattr(conftest, "model", model)


def test_an_answer_has_its_best_hypothesis_confidence_or_none(server):
    with Client(server.address) as client:
        sure, unsure = client.generate(["sure", "snow"])
        assert (sure.confidence, sure.hypotheses[0].confidence) == (0.75, 0.75)
        assert (unsure.confidence, unsure.hypotheses[0].confidence) == (None, None)


def test_a_model_is_read_field_by_field(server, calibrated):
    with Client(server.address) as client:
        assert client.model().calibration == FITTED


def test_a_column_of_its_own(server):
    asked = run(server.address, "--confidence", "sure", "snow")
    assert asked == (0, "sure\te r u s\t0.7500\nsnow\tw o n s\t-\n", "")
    assert [json.loads(run(server.address, "--json", word)[1])["confidence"] for word in ("sure", "ab")] == [
        0.75,
        None,
    ]


@pytest.mark.parametrize("beside", ["--json", "--stream", "--score"])
def test_the_column_has_no_place_elsewhere(server, beside):
    status, out, errors = run(server.address, "--confidence", beside, "sure")
    assert (status, out) == (2, "")
    assert "--confidence is a column of answers" in errors


def test_the_list_of_models_says_what_is_promised(server, calibrated):
    listed, _, promised = run(server.address, "--list")[1].splitlines()
    assert listed.startswith("backwards*")
    said = ("over 0.5 75.0% of answers, 87.5% right", "over 0.9 50.0% of answers, 96.9% right")
    assert promised == f"  confidence, on test: {'; '.join(said)}"
