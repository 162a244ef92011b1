"""One step of a recurrent cell, of primitive operators, in any profile. Formulas: training/cells.py.

Knows nothing of tokens. Letters: R rows, H hidden size, G gates.
"""

from collections.abc import Sequence

import numpy as np

from export.arithmetic import Float32
from export.gates import Weights


def add_cell(
    graph: Float32, weights: Weights, layer: int | str, parts: Sequence[str], driven: str = ""
) -> tuple[str, str]:
    """Reads the units `parts` and the state of a layer; the next h [R, H], in float32 and as a unit.

    `driven` [R, G * H]: what else comes to the gates, in place of the bias. The last rows of the weights are
    those of `parts`.
    """
    name, hidden = f"cell_{layer}", f"h_{layer}"
    bias = None if driven else weights.bias
    if weights.back_bias is not None:
        if parts:
            driven = graph.product(parts, weights.read, bias, f"{name}.read", driven)
        back = graph.product([hidden], weights.back, weights.back_bias, f"{name}.back")
        return _gru(graph, layer, driven, back)
    factor = np.concatenate((weights.read, weights.back)) if parts else weights.back
    sums = graph.product([*parts, hidden], factor, bias, f"{name}.gates", driven)  # [R, G * H]
    if weights.cell.states == 1:
        return graph.unit("Tanh", [sums], f"next_{hidden}")
    return _lstm(graph, layer, sums, weights)


def _gru(graph: Float32, layer: int | str, driven: str, back: str) -> tuple[str, str]:
    """Both [R, 3H], gates r, z, n. The next h is n + z (h - n)."""
    name = f"cell_{layer}"
    sums = [[f"{name}.{gate}_{side}" for gate in "rzn"] for side in ("read", "back")]
    for whole, parts in zip((driven, back), sums, strict=True):
        graph.add_many("Split", [whole], parts, axis=1, num_outputs=3)
    (r_read, z_read, n_read), (r_back, z_back, n_back) = sums
    r = graph.add("Sigmoid", [graph.add("Add", [r_read, r_back], f"{name}.r_sum")], f"{name}.r")
    z = graph.add("Sigmoid", [graph.add("Add", [z_read, z_back], f"{name}.z_sum")], f"{name}.z")
    kept = graph.add("Mul", [r, n_back], f"{name}.n_kept")
    n = graph.add("Tanh", [graph.add("Add", [n_read, kept], f"{name}.n_sum")], f"{name}.n")
    change = graph.add("Sub", [graph.as_float(f"h_{layer}"), n], f"{name}.change")
    return graph.unit("Add", [n, graph.add("Mul", [z, change], f"{name}.old")], f"next_h_{layer}")


def _lstm(graph: Float32, layer: int | str, sums: str, weights: Weights) -> tuple[str, str]:
    """Any kind of LSTM: gates before their functions [R, G * H]. A coupled one's next c is g + f (c - g)."""
    name, old, gates = f"cell_{layer}", f"c_{layer}", weights.cell.gates
    parts = {gate: f"{name}.{gate}_sum" for gate in gates}
    graph.add_many("Split", [sums], list(parts.values()), axis=1, num_outputs=len(gates))

    def let_through(gate: str, seen: str) -> str:
        """A gate after its peephole at a cell state, if it has one, and its function."""
        if weights.peephole is not None:
            row = weights.peephole[weights.cell.peepholes.index(gate)]
            look = graph.add(
                "Mul", [seen, graph.weight(f"{name}.{gate}_peephole", row)], f"{name}.{gate}_look"
            )
            parts[gate] = graph.add("Add", [parts[gate], look], f"{name}.{gate}_all")
        return graph.add("Sigmoid", [parts[gate]], f"{name}.{gate}")

    f, g = let_through("f", old), graph.add("Tanh", [parts["g"]], f"{name}.g")
    if "i" in gates:
        kept = graph.add("Mul", [f, old], f"{name}.kept")
        new = graph.add("Mul", [let_through("i", old), g], f"{name}.new")
    else:
        kept = graph.add("Mul", [f, graph.add("Sub", [old, g], f"{name}.change")], f"{name}.kept")
        new = g
    cell = graph.add("Add", [kept, new], f"next_{old}")
    o = let_through("o", cell)
    return graph.unit("Mul", [o, graph.add("Tanh", [cell], f"{name}.squashed")], f"next_h_{layer}")
