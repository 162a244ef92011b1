"""References together: the loss by hand, batches and shares that part no source, a run that was stopped."""

import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from tests.training.short_runs import train
from tests.training.test_batches import options
from training import trainer
from training.__main__ import main
from training.batches import Batch, pick, pick_sources, updates
from training.checkpoint import load_checkpoint
from training.examples import Examples
from training.model import Seq2Seq
from training.objective import add_gradients
from training.ranks import Ranks
from training.recipe import Model, RecipeError, load_recipe
from training.trainer import Trainer

START = 8
MARGINALISED = options(references="marginalised")


def examples(counts: list[int]) -> Examples:
    """Sources with so many references, which lie anywhere."""
    chance = np.random.default_rng(3)
    groups = chance.permutation(np.repeat(np.arange(len(counts)), counts))
    lengths, targets = chance.integers(1, 5, len(counts))[groups], chance.integers(1, 6, len(groups))
    source, target = np.zeros((len(groups), 4), np.int64), np.zeros((len(groups), 5), np.int64)
    for row, group in enumerate(groups):
        source[row, : lengths[row]] = 2 + group % 6
        target[row, : targets[row]] = chance.integers(1, START, targets[row])
    return Examples(source, lengths, target, targets, groups)


def network() -> Seq2Seq:
    torch.manual_seed(7)
    model = Seq2Seq(9, START + 1, Model(embedding_size=6, hidden_size=8, attention="general"))
    for parameter in model.parameters():
        parameter.data.mul_(3)  # probabilities that differ
    return model


def learnt(batches: list[Batch], tokens: float | None = None) -> tuple[float, list[Tensor]]:
    """The loss of an update in nats a token, and its gradients."""
    model = network()
    loss = add_gradients(Fabric(accelerator="cpu"), model, batches, MARGINALISED, 0.0, tokens)
    return loss, [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def assert_same(found: tuple[float, list[Tensor]], wanted: tuple[float, list[Tensor]]) -> None:
    assert found[0] == pytest.approx(wanted[0], rel=1e-5)
    for one, other in zip(found[1], wanted[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_loss_is_that_of_any_reference_of_a_source() -> None:
    """By hand: each reference alone, its tokens' log-probabilities added up; their gradients, weighed."""
    found, model = examples([3, 1, 2]), network()
    groups = sorted(set(found.groups.tolist()))
    loss, tokens = 0.0, 0
    gradients = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for group in groups:
        scores, parts = [], []
        for row in np.flatnonzero(found.groups == group):
            one = pick(found, np.array([row]), START)
            said = model(one.source, one.lengths, one.read).log_softmax(2)[0]
            score = sum(said[step, label] for step, label in enumerate(one.labels[0].tolist()))
            scores.append(score.item())
            parts.append(torch.autograd.grad(score, list(model.parameters()), allow_unused=True))
            tokens += one.tokens
        likelihood = sum(map(math.exp, scores))
        loss -= math.log(likelihood)
        for score, part in zip(scores, parts, strict=True):
            for total, gradient in zip(gradients, part, strict=True):
                if gradient is not None:
                    total -= math.exp(score) / likelihood * gradient
    wanted = loss / tokens, [total / tokens for total in gradients]
    first = [int(np.flatnonzero(found.groups == group)[-1]) for group in groups]  # whichever stands for it
    batch = pick_sources(found, np.array(first), START)
    assert_same(learnt([batch]), wanted)
    apart, _ = learnt([replace(batch, owners=None)])  # negative control: each reference for itself
    assert apart > 1.1 * wanted[0]


def test_one_reference_each_is_teacher_forcing() -> None:
    found = examples([1] * 7)
    batch = pick_sources(found, np.arange(7), START)
    assert_same(learnt([batch]), learnt([replace(batch, owners=None)]))


def test_batches_and_processes_add_up_to_the_whole() -> None:
    found = examples([1, 2, 3, 4, 2, 1])
    sources = np.array([part[0] for part in found.of_groups])
    whole = pick_sources(found, sources, START)
    assert_same(learnt([pick_sources(found, part, START) for part in np.split(sources, 3)]), learnt([whole]))
    shares = [Ranks(rank, 2).share(sources) for rank in range(2)]
    parts = [learnt([pick_sources(found, share, START)], whole.tokens) for share in shares]
    loss = sum(part[0] for part in parts)
    assert_same(
        (loss, [sum(both) for both in zip(*(part[1] for part in parts), strict=True)]), learnt([whole])
    )


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize(
    "changes", [{}, {"batch_tokens": 60}, {"bucket_width": 3, "batch_tokens": 90}], ids=str
)
def test_no_source_is_parted_and_both_limits_hold(changes: dict[str, Any], processes: int) -> None:
    found = examples(np.random.default_rng(5).integers(1, 6, 300).tolist())
    chosen = options(references="marginalised", processes=processes, **changes)
    made = [[batch for update in updates(found, chosen, epoch) for batch in update] for epoch in range(4)]
    assert len({len(batches) for batches in made}) == 1
    assert made[0][0].tolist() != made[1][0].tolist()
    for batches in made:
        assert sorted(found.groups[np.concatenate(batches)].tolist()) == list(range(len(found.of_groups)))
        shares = [Ranks(rank, processes).share(batch) for batch in batches for rank in range(processes)]
        picked = [pick_sources(found, share, START) for share in shares if len(share)]
        assert sum(len(batch.labels) for batch in picked) == len(found)
        for batch in picked:
            padded = batch.source.numel() + batch.labels.numel()
            assert len(batch.labels) <= chosen.batch_size
            assert not chosen.batch_tokens or padded <= chosen.batch_tokens
        assert np.median([len(batch.labels) for batch in picked]) > (4 if changes else 10)


@pytest.mark.usefixtures("no_curves")
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "mine.toml"
    before, _, after = tiny_recipe.read_text().partition("[data]")
    _, _, rest = after.partition("[source]")
    data = f'[data]\nkind = "files"\nfolder = "{tmp_path}"\ntrain = "all.tsv"\ndev = "all.tsv"\n'
    recipe.write_text(f'{before}{data}name = "-"\nlicence = "-"\n[source]{rest}')
    words = [a + b + c for a in "abcd" for b in "abc" for c in ("", "d", "e")]
    (tmp_path / "all.tsv").write_text("".join(f"{word}\t{word[::-1]}\t{word}\n" for word in words))
    settings = ("references=marginalised", "label_smoothing=0.0", "batch_size=12", "batches_per_update=2")
    sets = [word for setting in (*settings, "epochs=3") for word in ("--set", f"training.{setting}")]

    def run(name: str) -> dict[str, Tensor]:
        assert main([str(recipe), "--run", str(tmp_path / name), "--device", "cpu", *sets]) == 0
        return load_checkpoint(tmp_path / name / "checkpoint.safetensors").tensors

    real, really_add = Trainer._step, trainer.add_gradients
    references = 0

    def add_gradients(fabric: Fabric, model: Seq2Seq, batches: list[Batch], *more: Any) -> float:
        nonlocal references
        references += sum(len(batch.labels) for batch in batches if batch.owners is not None)
        return really_add(fabric, model, batches, *more)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "add_gradients", add_gradients)
        whole = run("whole")
    assert references == 3 * sum(len({word, word[::-1]}) for word in words)

    def step(self: Trainer, batches: Any) -> None:
        real(self, batches)
        if self.progress["step"] == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_step", step)
        run("parts")
    found = load_checkpoint(tmp_path / "parts" / "checkpoint.safetensors")
    assert (found.state["progress"]["step"], found.state["progress"]["finished"]) == (5, False)
    parts = run("parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_what_has_no_meaning_with_it_is_refused(
    tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marginalised = "training.references=marginalised"
    with pytest.raises(RecipeError, match='label_smoothing: must be 0 with references = "marginalised"'):
        load_recipe(tiny_recipe, [marginalised])
    assert train(tiny_recipe, tmp_path / "teacher") == 0
    sets = ("--set", marginalised, "--set", "training.label_smoothing=0.0")
    assert train(tiny_recipe, tmp_path / "run", "--teacher", str(tmp_path / "teacher"), *sets) == 2
    assert 'training.references: must be "all" or "sampled" with --teacher' in capsys.readouterr().err
