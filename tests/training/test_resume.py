"""A run that is killed, at whatever moment, ends with the same bits as one that is left alone."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

ROOT = Path(__file__).parents[2]
CHAIN = (
    ("step:5", -9),  # in the middle of an epoch, two steps after a checkpoint
    ("save:1", -9),  # before the checkpoint is written
    ("half:1", -9),  # half of it written
    ("sync:1", -9),  # all of it written, not yet forced to the disk
    ("rename:1", -9),  # written, not yet renamed
    ("renamed:1", -9),  # renamed
    ("best:1", -9),  # the epoch's best model written, not yet renamed
    ("best-kept:1", -9),  # best model kept, but no checkpoint that knows of it
    ("terminate:2", 0),  # asked to stop, politely
    ("step:4", -9),
    ("end", 0),
)


def train(recipe: Path, *runs: str) -> list[int]:
    """Runs FOLDER=POINT one after the other in one process; returns how each ended."""
    result = subprocess.run(
        [sys.executable, "tests/training/killed_runs.py", str(recipe), *runs],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    ends = [int(line.split()[1]) for line in result.stdout.splitlines() if line.startswith("ended")]
    assert len(ends) == len(runs), result.stderr
    return ends


def digest(folder: Path) -> str:
    """Over every tensor of checkpoint and best model, and the progress; what a clock measured is left out."""
    sha = hashlib.sha256()
    for name in ("checkpoint", "best"):
        found = load_checkpoint(folder / f"{name}.safetensors")
        for key in sorted(found.tensors):
            sha.update(key.encode() + found.tensors[key].numpy().tobytes())
    progress = load_checkpoint(folder / "checkpoint.safetensors").state["progress"]
    for row in progress["history"]:
        del row["tokens_per_second"], row["tokens_per_cpu_second"]
    kept = {key: progress[key] for key in ("step", "best_wer", "best_epoch", "history", "finished")}
    sha.update(json.dumps(kept, sort_keys=True).encode())
    return sha.hexdigest()


@pytest.fixture(scope="module")
def runs(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `whole` (never stopped), `chain` (stopped at every point) and `halfway` (killed in epoch 2)."""
    home = tmp_path_factory.mktemp("runs")
    steps = [f"{home}/chain={point}" for point, _ in CHAIN]
    ends = train(tiny_recipe, f"{home}/whole=end", *steps, f"{home}/halfway=step:20")
    assert ends == [0, *(end for _, end in CHAIN), -9]
    return home


def test_a_run_killed_at_every_moment_ends_with_the_same_bits(runs: Path) -> None:
    assert digest(runs / "chain") == digest(runs / "whole")
    assert load_checkpoint(runs / "whole" / "checkpoint.safetensors").state["progress"]["finished"]


def without(name: str) -> Callable[[Checkpoint], Checkpoint]:
    def change(found: Checkpoint) -> Checkpoint:
        kept = {key: value for key, value in found.tensors.items() if not key.startswith(name)}
        return replace(found, tensors=kept)

    return change


def zeroed(name: str) -> Callable[[Checkpoint], Checkpoint]:
    def change(found: Checkpoint) -> Checkpoint:
        changed = {key: value * 0 for key, value in found.tensors.items() if name in key}
        return replace(found, tensors=found.tensors | changed)

    return change


def other_generator(found: Checkpoint) -> Checkpoint:
    fresh = torch.Generator().manual_seed(1).get_state()
    return replace(found, tensors=found.tensors | {"generator.cpu": fresh})


def other_position(found: Checkpoint) -> Checkpoint:
    progress = found.state["progress"]
    return replace(found, state=found.state | {"progress": progress | {"step": progress["step"] - 1}})


def lacking(*keys: str) -> Callable[[Checkpoint], Checkpoint]:
    def change(found: Checkpoint) -> Checkpoint:
        state = json.loads(json.dumps(found.state))
        table = state["progress"]
        for key in keys[:-1]:
            table = table[key]
        del table[keys[-1]]
        return replace(found, state=state)

    return change


def unchanged(found: Checkpoint) -> Checkpoint:
    return found


CHANGES: dict[str, tuple[Callable[[Checkpoint], Checkpoint], str]] = {
    "unchanged": (unchanged, "the same"),
    "other generator": (other_generator, "another"),
    "first moments zeroed": (zeroed(".exp_avg"), "another"),
    "adam steps zeroed": (zeroed(".step"), "another"),
    "average zeroed": (zeroed("average.module."), "another"),
    "average's count zeroed": (zeroed("n_averaged"), "another"),
    "other position": (other_position, "another"),
    "no generator": (without("generator."), "refused"),
    "no moments": (without("optimizer."), "refused"),
    "no average": (without("average."), "refused"),
    "no position": (lacking("step"), "refused"),
    "no history": (lacking("history"), "refused"),
    "no layers": (lacking("layers"), "refused"),
    "no best epoch": (lacking("best_epoch"), "refused"),
    "no word of its end": (lacking("finished"), "refused"),
    "no loss of the epoch": (lacking("epoch_tally", "loss"), "refused"),
    "no clips of the epoch": (lacking("epoch_tally", "by_norm"), "refused"),
}


@pytest.fixture(scope="module")
def outcomes(runs: Path, tiny_recipe: Path) -> dict[str, str]:
    """What came of going on from a changed checkpoint."""
    folders = {}
    for name, (change, _) in CHANGES.items():
        folder = runs / name.replace(" ", "-")
        shutil.copytree(runs / "halfway", folder)
        save_checkpoint(
            folder / "checkpoint.safetensors", change(load_checkpoint(folder / "checkpoint.safetensors"))
        )
        folders[name] = folder
    ends = train(tiny_recipe, *(f"{folder}=end" for folder in folders.values()))
    whole = digest(runs / "whole")
    return {
        name: "refused" if end == 2 else "the same" if digest(folder) == whole else "another"
        for (name, folder), end in zip(folders.items(), ends, strict=True)
    }


@pytest.mark.parametrize("name", CHANGES)
def test_every_part_of_the_state_matters(name: str, outcomes: dict[str, str]) -> None:
    """Negative controls: state that is wrong shows in the digest, state that is missing is refused."""
    assert outcomes[name] == CHANGES[name][1]
