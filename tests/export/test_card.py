"""The model card has the scores of the model that is exported, and of no other."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

from export.card import make_card
from training.__main__ import main
from training.checkpoint import load_checkpoint


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A run that was evaluated on two words."""
    folder = shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "words.tsv").write_text("chair\tT1 T2\nlift\tT3\n")
    assert main(["evaluate", str(folder), "--file", str(tmp_path / "words.tsv")]) == 0
    return folder


def scored(run: Path) -> list[str]:
    card = make_card(load_checkpoint(run / "best.safetensors"), run)
    return [f"{score.metric} {score.dataset}" for score in card.scores]


def test_scores_have_their_intervals(run: Path) -> None:
    measured = json.loads((run / "scores-words.tsv.json").read_bytes())
    wer, per = make_card(load_checkpoint(run / "best.safetensors"), run).scores
    for score, name in ((wer, "wer"), (per, "per")):
        assert score.value == pytest.approx(measured[name], abs=0.005)
        assert score.interval_95 == pytest.approx(measured[f"{name}_interval_95"], abs=0.005)


def test_scores_name_their_model(run: Path) -> None:
    scores = json.loads((run / "scores-words.tsv.json").read_bytes())
    assert scores["model_sha256"] == hashlib.sha256((run / "best.safetensors").read_bytes()).hexdigest()
    assert scored(run) == ["WER words.tsv", "PER words.tsv"]


@pytest.mark.parametrize(
    ("digest", "says"), [("0" * 64, "of another model"), (None, "of a model that it does not name")]
)
def test_scores_of_another_model_are_left_out_and_named(
    digest: str | None, says: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "scores-words.tsv.json"
    scores = json.loads(path.read_bytes()) | {"model_sha256": digest}
    path.write_text(json.dumps({key: value for key, value in scores.items() if value is not None}))
    capsys.readouterr()
    assert scored(run) == []
    assert f"scores\t{path.name} left out: {says}; evaluate the run again" in capsys.readouterr().out
