"""What the steps of a run do together, and the same by hand: the average of weights, the share sampled."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.short_runs import train
from training import trainer
from training.checkpoint import load_checkpoint
from training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("no_curves")


def test_the_average_is_that_of_each_steps_weights(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step's as they are; then nine tenths of the average and a tenth of the weights."""
    real, by_hand = Trainer._step, {}
    seen: list[dict[str, Tensor]] = []

    def step(self: Trainer, batches: Any) -> None:
        real(self, batches)
        seen.append({name: tensor.double() for name, tensor in self.network.state_dict().items()})

    monkeypatch.setattr(Trainer, "_step", step)
    assert train(tiny_recipe, tmp_path) == 0
    assert len(seen) > 3
    for name, first in seen[0].items():
        by_hand[name] = first
        for weights in seen[1:]:
            by_hand[name] = 0.9 * by_hand[name] + 0.1 * weights[name]
    kept = load_checkpoint(tmp_path / "checkpoint.safetensors").group("average.module")
    best = load_checkpoint(tmp_path / "best.safetensors").group("model")
    assert kept.keys() == best.keys() == by_hand.keys()
    for name, wanted in by_hand.items():
        torch.testing.assert_close(kept[name].double(), wanted, rtol=1e-5, atol=1e-6)
        assert torch.equal(best[name], kept[name])
    assert any(not torch.allclose(kept[name].double(), seen[-1][name], atol=1e-4) for name in kept)


def test_the_share_of_its_own_tokens_grows_evenly_to_that_of_the_recipe(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainer.add_gradients
    shares: list[float] = []

    def add_gradients(*arguments: Any) -> float:
        shares.append(arguments[4])
        return real(*arguments)

    monkeypatch.setattr(trainer, "add_gradients", add_gradients)
    assert train(tiny_recipe, tmp_path, "--set", "training.epochs=3") == 0
    last = len(shares) - 1
    assert last > 8
    assert (shares[0], shares[last]) == (0.0, pytest.approx(0.2))
    assert shares == pytest.approx([0.2 * step / last for step in range(last + 1)])
