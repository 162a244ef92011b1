"""Clipping, by numbers worked out by hand, and the learning rate."""

import math

import pytest
import torch
from torch import nn

from training.clipping import clip_gradients, layer_of
from training.recipe import Training
from training.schedule import learning_rate, make_optimizer
from training.tally import add_step, by_layer, new_tally, summary


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
    tally = new_tally()
    for gradient in ([3.0, -4.0], [0.3, 0.4], [0.0, 2.5]):
        add_step(tally, 0.5, 4, 2, clip_gradients(model_with(gradient), 2.0, 1.0))
    tally["seconds"], tally["cpu_seconds"] = 2.0, 3.0
    assert summary(tally) == pytest.approx(
        {
            "train_loss": 0.5,
            "tokens_per_second": 3 * (4 + 2) / 2.0,
            "tokens_per_cpu_second": 3 * (4 + 2) / 3.0,
            "gradient_norm_mean": (5.0 + 0.5 + 2.5) / 3,
            "gradient_norm_max": 5.0,
            "steps_clipped_by_norm": 2 / 3,
            "steps_clipped_by_value": 2 / 3,
            "components_clipped_by_value": 3 / 6,
        }
    )


@pytest.mark.parametrize(
    ("parameter", "layer"),
    [
        ("encoder.recurrent.weight_ih_l0", "encoder.recurrent.0"),
        ("encoder.recurrent.bias_hh_l1_reverse", "encoder.recurrent.1"),
        ("decoder.further.peephole_l0", "decoder.further.0"),
        ("decoder.attention.key.weight", "decoder.attention.key"),
        ("bridge.cell.0.bias", "bridge.cell.0"),
        ("weight", "weight"),
    ],
)
def test_layers_of_parameters(parameter: str, layer: str) -> None:
    assert layer_of(parameter) == layer


def test_each_layer_is_told_apart() -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1, bias=False))
    tally = new_tally()
    for scale in (1.0, 0.0):
        model[0].weight.grad = torch.tensor([[3.0, -4.0]]) * scale
        model[0].bias.grad = torch.tensor([12.0]) * scale
        model[1].weight.grad = torch.tensor([[1.0]])
        add_step(tally, 0.5, 4, 2, clip_gradients(model, 3.5, 2.0))
    capped = [3.0, 3.5, 3.5]  # and 1.0: a norm of
    norm = math.sqrt(sum(value * value for value in capped) + 1)
    first, second = by_layer(tally)
    assert first == {
        "layer": "0",
        "norm_before": pytest.approx(13 / 2),
        "norm_after": pytest.approx(math.hypot(*capped) * 2 / norm / 2, rel=1e-5),
        "steps_clipped_by_value": 1 / 2,
        "components_clipped_by_value": 2 / 6,
    }
    assert second == {
        "layer": "1",
        "norm_before": 1.0,
        "norm_after": pytest.approx((2 / norm + 1) / 2, rel=1e-5),
        "steps_clipped_by_value": 0.0,
        "components_clipped_by_value": 0.0,
    }
    after = math.hypot(model[0].weight.grad.norm().item(), model[1].weight.grad.norm().item())
    assert after == pytest.approx(1.0)  # the second step's gradient, as it was left


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


def test_the_inverse_root_goes_on_from_the_warm_up() -> None:
    options = Training(
        epochs=1, patience_epochs=1, learning_rate=0.8, warmup_steps=4, schedule="inverse-sqrt"
    )
    rates = [learning_rate(options, step, 99) for step in range(17)]
    assert rates[3] == rates[4] == pytest.approx(0.8)
    assert rates[16] == pytest.approx(0.4)
    assert rates[4:] == sorted(rates[4:], reverse=True)


@pytest.mark.parametrize(
    ("errors", "rate"),
    [
        ([], 0.8),
        ([9, 8, 7, 6], 0.8),
        ([9, 9, 8], 0.8),
        ([9, 9, 9], 0.4),
        ([9, 9, 9, 9], 0.4),
        ([9, 9, 9, 9, 9], 0.2),
        ([9, 10, 11, 8, 9, 7], 0.4),
    ],
)
def test_a_plateau_lowers_the_rate(errors: list[float], rate: float) -> None:
    options = Training(epochs=9, patience_epochs=9, learning_rate=0.8, warmup_steps=2, schedule="plateau")
    assert learning_rate(options, 50, 99, errors) == pytest.approx(rate)
    assert learning_rate(options, 0, 99, errors) == pytest.approx(0.4)


def test_adamw_pulls_matrices_alone() -> None:
    network = nn.Linear(2, 1)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    options = Training(epochs=1, patience_epochs=1, optimizer="adamw", weight_decay=0.5, learning_rate=0.1)
    optimizer = make_optimizer(network, options)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(network.weight, before[0] * (1 - 0.1 * 0.5))
    assert torch.equal(network.bias, before[1])


def test_decay_without_adamw_is_refused() -> None:
    with pytest.raises(ValueError, match="weight_decay: must be 0 unless"):
        Training(epochs=1, patience_epochs=1, weight_decay=0.1)
