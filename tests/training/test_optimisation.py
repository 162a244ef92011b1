"""Clipping, by numbers worked out by hand, and the learning rate."""

import math

import pytest
import torch
from torch import nn

from training.clipping import ClipTally, clip_gradients
from training.recipe import Training
from training.schedule import learning_rate


def model_with(gradient: list[float]) -> nn.Module:
    module = nn.Linear(len(gradient), 1, bias=False)
    module.weight.grad = torch.tensor([gradient])
    return module


@pytest.mark.parametrize(
    ("value", "norm", "clipped", "by_norm", "components"),
    [
        (0.0, 0.0, [3.0, -4.0], False, 0),
        (0.0, 1.0, [0.6, -0.8], True, 0),  # |g| = 5
        (0.0, 6.0, [3.0, -4.0], False, 0),
        (3.5, 0.0, [3.0, -3.5], False, 1),
        (2.0, 0.0, [2.0, -2.0], False, 2),
        (2.0, 2.0, [math.sqrt(2), -math.sqrt(2)], True, 2),  # first the caps, then |(2, -2)| = 2.83
        (2.0, 3.0, [2.0, -2.0], False, 2),  # 5 is over the norm, 2.83 is not
        (9.0, 1.0, [0.6, -0.8], True, 0),
    ],
)
def test_clips_of_both_kinds(
    value: float, norm: float, clipped: list[float], by_norm: bool, components: int
) -> None:
    model = model_with([3.0, -4.0])
    found = clip_gradients(model, value, norm)
    assert model.weight.grad.tolist()[0] == pytest.approx(clipped, rel=1e-5)
    assert (found.norm, found.by_norm, found.components, found.all_components) == (
        pytest.approx(5.0),
        by_norm,
        components,
        2,
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_refused_untouched(bad: float) -> None:
    model = model_with([3.0, bad])
    with pytest.raises(FloatingPointError, match="the gradient's norm is"):
        clip_gradients(model, 1.0, 1.0)
    assert model.weight.grad[0, 0] == 3.0


def test_the_tally_gives_shares() -> None:
    tally = ClipTally.new()
    for gradient in ([3.0, -4.0], [0.3, 0.4], [0.0, 2.5]):
        ClipTally.add(tally, clip_gradients(model_with(gradient), 2.0, 1.0))
    assert ClipTally.summary(tally) == pytest.approx(
        {
            "gradient_norm_mean": (5.0 + 0.5 + 2.5) / 3,
            "gradient_norm_max": 5.0,
            "steps_clipped_by_norm": 2 / 3,
            "steps_clipped_by_value": 2 / 3,
            "components_clipped_by_value": 3 / 6,
        }
    )


def test_the_learning_rate_warms_up_then_follows_half_a_cosine() -> None:
    options = Training(epochs=1, patience_epochs=1, learning_rate=0.8, warmup_steps=4)
    rates = [learning_rate(options, step, 12) for step in range(13)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert rates[8] == pytest.approx(0.4)
    assert rates[12] == pytest.approx(0.0)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_a_constant_rate_stays() -> None:
    options = Training(epochs=1, patience_epochs=1, learning_rate=0.8, warmup_steps=2, schedule="constant")
    assert [learning_rate(options, step, 9) for step in (0, 1, 2, 8)] == pytest.approx([0.4, 0.8, 0.8, 0.8])
