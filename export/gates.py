"""The weights of a recurrent layer by gate: the one place that knows in which order.

Blocks are named as in training/cells.py. ONNX's LSTM takes its gates in the order i, o, f, c, its GRU z, r,
h. A coupled cell's i = 1 - f is a gate of its own there: f with its sign turned, for 1 - sigmoid(a) is
sigmoid(-a). The operator has coupled gates too, f = 1 - i, but not on CUDA.
Letters: H hidden size of one direction, G gates.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from training.cells import Cell
from training.recurrent import Recurrent

ORDERS = {"RNN": ("h",), "GRU": ("z", "r", "n"), "LSTM": ("i", "o", "f", "g")}


class Weights(NamedTuple):
    """Those of one layer and direction, in the cell's own order of gates."""

    cell: Cell
    read: np.ndarray  # [in, G * H]
    back: np.ndarray  # [H, G * H]
    bias: np.ndarray  # [G * H]
    back_bias: np.ndarray | None  # [G * H], where it is not a part of `bias`: the reset gate comes after it
    peephole: np.ndarray | None  # [P, H]


def weights_of(recurrent: Recurrent, layer: int, way: str = "") -> Weights:
    """The weights of a layer in one direction, "" or "_reverse"."""
    found = {name: weight.detach().cpu().numpy() for name, weight in recurrent.weights(layer, way).items()}
    biases = [found[name] for name in ("bias", "bias_ih", "bias_hh") if name in found]
    resets = "r" in recurrent.cell.gates
    return Weights(
        recurrent.cell,
        found["weight_ih"].T,
        found["weight_hh"].T,
        biases[0] if resets else sum(biases[1:], biases[0]),
        biases[1] if resets else None,
        found.get("peephole"),
    )


def operator_of(cell: Cell) -> tuple[str, dict[str, int]]:
    """The operator that runs a cell over time, and the attributes that it needs for it."""
    if cell.states == 2:
        return "LSTM", {}
    return ("GRU", {"linear_before_reset": 1}) if "r" in cell.gates else ("RNN", {})


def operator_order(cell: Cell, columns: np.ndarray) -> np.ndarray:
    """Columns [..., G * H] in the cell's order of gates -> the same in the operator's, [..., G' * H]."""
    blocks = dict(zip(cell.gates, np.split(columns, len(cell.gates), axis=-1), strict=True))
    return np.concatenate(_ordered(blocks, ORDERS[operator_of(cell)[0]]), axis=-1)


def operator_peephole(weights: Weights) -> np.ndarray | None:
    """P [3, H], gates i, o, f; None where the cell has no peepholes."""
    if weights.peephole is None:
        return None
    blocks = dict(zip(weights.cell.peepholes, weights.peephole, strict=True))
    return np.stack(_ordered(blocks, [gate for gate in ORDERS["LSTM"] if gate != "g"]))


def _ordered(blocks: dict[str, np.ndarray], order: Sequence[str]) -> list[np.ndarray]:
    if "i" in order and "i" not in blocks:
        blocks = blocks | {"i": -blocks["f"]}
    return [blocks[gate] for gate in order]
