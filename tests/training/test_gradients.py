"""How far gradients reach: against whole Jacobians, and against cells of which it is known."""

import csv
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from training.__main__ import main
from training.cells import CELLS
from training.gradients import loss_gains, measure, state_gains
from training.recurrent import Recurrent


def layer(name: str, hidden: int = 6) -> Recurrent:
    torch.manual_seed(5)
    return Recurrent(name, 3, hidden, 1, nn.Dropout(0.0))


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm-peephole-coupled"])
def test_gains_are_those_of_the_whole_jacobian(name: str) -> None:
    recurrent, x = layer(name), torch.randn(1, 5, 3)
    _, first = recurrent(x[:, :1])
    first = tuple(part.detach() for part in first)

    def last(*state: torch.Tensor) -> torch.Tensor:
        return recurrent(x[:, 1:], state)[0][0, -1]  # [H]

    jacobians = torch.autograd.functional.jacobian(last, first)
    expected = [float(jacobian.norm()) / math.sqrt(6) for jacobian in jacobians]
    assert state_gains(recurrent, x.repeat(4000, 1, 1))[-1] == pytest.approx(tuple(expected), rel=0.05)


@pytest.mark.parametrize(("scale", "gain"), [(0.5, 0.5**4), (1.0, 1.0), (2.0, 2.0**4)])
def test_a_linear_cell_scales_by_its_weights(scale: float, gain: float) -> None:
    """Near 0 tanh is the identity, and orthogonal weights change no norm."""
    recurrent = layer("rnn")
    recurrent.get_parameter("weight_hh_l0").data.mul_(scale)
    x = torch.zeros(3, 5, 3)
    assert state_gains(recurrent, x)[4][0] == pytest.approx(gain, rel=1e-4)
    assert loss_gains(recurrent, x)[4] == pytest.approx(gain, rel=1e-4)


def test_a_cell_that_forgets_nothing_keeps_its_gradient() -> None:
    recurrent = layer("lstm")
    recurrent.get_parameter("bias_ih_l0").data[6:12] = 20.0
    recurrent.get_parameter("weight_hh_l0").data.zero_()
    gains = [row["from_c"] for row in measure(recurrent, torch.zeros(8, 30, 3))]
    assert gains[29] == pytest.approx(gains[1], rel=0.1)
    recurrent.get_parameter("bias_ih_l0").data[6:12] = 0.0  # negative control: it forgets half a step
    assert [row["from_c"] for row in measure(recurrent, torch.zeros(8, 30, 3))][29] < 1e-6


def test_the_command_writes_a_table_and_a_picture(tiny_recipe: Path, tmp_path: Path) -> None:
    small = ["--steps", "4", "--sequences", "2", "--scales", "1", "2", "--to", str(tmp_path / "g")]
    assert main(["gradients", str(tiny_recipe), *small]) == 0
    with (tmp_path / "g" / "gradients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["cell"], row["recurrent_scale"], row["lag"]) for row in rows] == [
        (cell, scale, str(lag)) for cell in CELLS for scale in ("1", "2") for lag in range(4)
    ]
    assert {row["from_h"] for row in rows if row["lag"] == "0"} == {"1.0"}
    assert (tmp_path / "g" / "gradients.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--steps", "1"), ("--steps", "many"), ("--sequences", "0"), ("--scales", "nan"), ("--scales", "0")],
)
def test_numbers_of_no_sense_are_refused(
    option: str, value: str, tiny_recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["gradients", str(tiny_recipe), option, value])
    assert f"argument {option}: {value}: a" in capsys.readouterr().err
