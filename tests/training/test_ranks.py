"""Two processes: the same weights as one with the doubled batch, and a stopped run goes on bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from training import trainer
from training.__main__ import main
from training.checkpoint import load_checkpoint
from training.data import load_splits
from training.ranks import Ranks
from training.recipe import Recipe, RecipeError, completed, load_recipe
from training.report import RunFolder

pytestmark = pytest.mark.timeout(300)  # three processes import torch
ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-5  # measured: 5e-7, and 7e-3 where each process takes the mean over its own tokens
ONE = [
    "training.epochs=1",
    "model.dropout=0.0",
    "training.word_dropout=0.0",
    "training.scheduled_sampling=0.0",
    "training.precision=32-true",
    "training.bucket_width=4",
    "training.batch_size=10",
    "training.clip_value=0.0",
]


@pytest.fixture(scope="module")
def runs(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of two_ranks.py, and `one`, of one process with the doubled batch."""
    home = tmp_path_factory.mktemp("ranks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*torchrun, "tests/training/two_ranks.py", str(tiny_recipe), str(home)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert result.returncode == 0, result.stderr
    sets = [word for change in ONE for word in ("--set", change)]
    assert main([str(tiny_recipe), "--run", str(home / "one"), "--device", "cpu", *sets]) == 0
    return home


def differences(home: Path, first: str, second: str) -> dict[str, float]:
    """The largest one of each tensor of two checkpoints."""
    one, other = (load_checkpoint(home / name / "checkpoint.safetensors").tensors for name in (first, second))
    names = [name for name in one if not name.startswith("generator")]
    return {name: (one[name].float() - other[name].float()).abs().max().item() for name in names}


def test_two_processes_learn_as_one_with_the_doubled_batch(runs: Path) -> None:
    assert max(differences(runs, "one", "plain").values()) < TOLERANCE
    found = load_checkpoint(runs / "plain" / "best.safetensors").recipe.training
    assert (found.processes, found.batch_size) == (2, 5)


def test_means_of_each_process_alone_would_show(runs: Path) -> None:
    """Negative control: a mean of means, whatever the counts of tokens."""
    assert max(differences(runs, "one", "unweighted").values()) > 100 * TOLERANCE


def test_a_run_that_one_process_was_asked_to_stop_goes_on_with_the_same_bits(runs: Path) -> None:
    whole, stopped = (
        load_checkpoint(runs / name / "checkpoint.safetensors") for name in ("whole", "stopped")
    )
    assert whole.tensors.keys() == stopped.tensors.keys()
    assert all(torch.equal(whole.tensors[name], stopped.tensors[name]) for name in whole.tensors)
    assert not torch.equal(whole.tensors["generator.cpu"], whole.tensors["generator-1.cpu"])


def test_tokens_of_both_are_over_the_computing_of_both(runs: Path, tiny: Recipe) -> None:
    """A step takes both three seconds, by their clocks; strings are as long as their reverses."""
    progress = load_checkpoint(runs / "plain" / "checkpoint.safetensors").state["progress"]
    tokens = sum(2 * len(pair.source) + 1 for pair in load_splits(tiny)["train"].pairs)
    assert progress["history"][0]["tokens_per_cpu_second"] == pytest.approx(tokens / (3 * progress["step"]))


def test_another_number_of_processes_is_refused(
    runs: Path, tiny_recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_recipe), "--run", str(runs / "plain"), "--device", "cpu"]) == 2
    assert "holds a run of 2 processes, not 1" in capsys.readouterr().err


def test_a_recipe_for_more_processes_than_there_are_is_refused(tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["training.processes=4"])
    with pytest.raises(RecipeError, match=r"torchrun started 2; say torchrun --nproc-per-node 4"):
        completed(recipe, 2, "")
    assert completed(recipe, 4, "").training.processes == 4


def test_shares_are_every_nth() -> None:
    shares = [Ranks(rank, 3).share(list(range(8))) for rank in range(3)]
    assert shares == [[0, 3, 6], [1, 4, 7], [2, 5]]


def test_one_process_alone_adds_up_nothing() -> None:
    parameter = nn.Parameter(torch.ones(2))
    Ranks().add_up([parameter])
    assert parameter.grad is None
    assert (Ranks().sum(2, 0.5), Ranks().any(False), Ranks().gather_items([3, 4])) == (
        [2, 0.5],
        False,
        [3, 4],
    )


def test_processes_whose_weights_part_are_stopped(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(RunFolder, "_draw_curves", lambda folder, history, layers: None)
    monkeypatch.setattr(trainer, "_digest", lambda network: "mine")
    monkeypatch.setattr(
        Ranks, "gather", lambda self, value: ["mine", "another's"] if value == "mine" else [value]
    )
    assert main([str(tiny_recipe), "--run", str(tmp_path), "--device", "cpu"]) == 2
    assert "epoch 1: the processes no longer have the same weights" in capsys.readouterr().err
