"""A warm start: another run's weights and vocabularies, or a refusal that says what does not fit."""

import json
from pathlib import Path

import pytest
import torch

from tests.training.short_runs import train
from training.checkpoint import load_checkpoint
from training.start import best_digest
from training.trainer import Trainer

LETTERS = "abcdefghij"
pytestmark = pytest.mark.usefixtures("no_curves")


@pytest.fixture(scope="module")
def first(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("start") / "first"
    assert train(tiny_recipe, folder) == 0
    return folder


def test_a_run_starts_from_the_weights_and_vocabularies_of_another(
    first: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where its own data has the letters in another order."""
    seen: list[dict[str, torch.Tensor]] = []

    def step(self: Trainer, batches: object) -> None:
        if not seen:
            seen.append({name: tensor.clone() for name, tensor in self.network.state_dict().items()})
        real(self, batches)

    real = Trainer._step
    monkeypatch.setattr(Trainer, "_step", step)
    more = ["--set", "training.seed=9", "--set", "model.dropout=0.4"]
    assert train(tiny_recipe, tmp_path / "second", "--from", str(first), *more) == 0
    before, after = (load_checkpoint(run / "best.safetensors") for run in (first, tmp_path / "second"))
    assert all(torch.equal(seen[0][name], tensor) for name, tensor in before.group("model").items())
    assert (after.source_text, after.target_text) == (before.source_text, before.target_text)
    digest = best_digest(first)
    assert after.recipe.training.started_from == digest
    audit = json.loads((tmp_path / "second" / "audit.json").read_bytes())
    assert audit["started_from"] == {
        "title": "Tiny",
        "epoch": 1,
        "commit": before.state["commit"],
        "sha256": digest,
    }
    seen.clear()
    assert train(tiny_recipe, tmp_path / "third", *more) == 0  # negative control: without --from
    assert any(not torch.equal(seen[0][name], tensor) for name, tensor in before.group("model").items())


def test_a_warm_run_goes_on_by_the_same_command_alone(
    first: Path, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tiny_recipe, tmp_path, "--from", str(first)) == 0
    assert train(tiny_recipe, tmp_path, "--from", str(first)) == 0
    assert "this run has ended; nothing to do" in capsys.readouterr().err
    assert train(tiny_recipe, tmp_path) == 2
    assert "holds a run of another recipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("model.hidden_size=18", "its [model] is another; only dropout may differ"),
        ("source.lowercase=true", "its [source] is another"),
        (f'data.alphabet="{LETTERS}xy"', "its source vocabulary lacks ['x', 'y']"),
        ('training.started_from="0"', "training.started_from: another model than --from names"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: str,
    reason: str,
    first: Path,
    tiny_recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(tiny_recipe, tmp_path / "run", "--from", str(first), "--set", change) == 2
    assert reason in capsys.readouterr().err


def test_a_start_that_is_not_there_is_refused(
    tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tiny_recipe, tmp_path / "run", "--from", str(tmp_path)) == 2
    assert "best.safetensors: No such file" in capsys.readouterr().err
