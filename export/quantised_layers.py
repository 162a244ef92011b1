"""An LSTM encoder's layers in whole numbers: ONNX Runtime's DynamicQuantizeLSTM, with its scales pinned.

It takes the scale of each run from the largest and least number in the batch, so that neighbours would change
an answer. Sentinels pin both, and weigh nothing: two hidden units that stay at +1 and -1 (exactly where, says
export/saturation.py), and two constant features beside the embedding.

Letters: B batch, S source length, E embedding, H hidden of one direction, D of all.
"""

from collections.abc import Sequence

import numpy as np

from export.arithmetic import Float32
from export.gates import Weights, operator_order, operator_peephole, weights_of
from export.int8 import quantise
from export.layers import Encoded, add_operator, biases, join_directions, join_outputs, look_up
from export.onnx_graph import GraphBuilder
from export.saturation import OPEN, largest
from training.model import Encoder
from training.recurrent import Recurrent


def add_quantised_layers(graph: Float32, encoder: Encoder, needs_outputs: bool) -> Encoded:
    """source [B, S], lengths [B] -> what all the layers made of it. For LSTMs of every kind."""
    recurrent = encoder.recurrent
    table = encoder.embedding.weight.detach().cpu().numpy()
    bound = np.full((len(table), 1), np.abs(table).max(), np.float32)
    x = look_up(graph, np.concatenate((table, bound, -bound), axis=1))  # [S, B, E + 2]
    one = graph.integers("one", 1)
    batch = graph.add("Shape", ["lengths"], "batch")
    graph.add("Concat", [one, batch, one], "state_shape", axis=0)  # 1, B, 1
    states = []
    for layer in range(recurrent.num_layers):
        last = layer == recurrent.num_layers - 1
        outputs, *after = _add_layer(graph, recurrent, layer, x, needs_outputs or not last)
        if last and needs_outputs:
            outputs = _without_sentinels(graph, recurrent, outputs, 3)
        x = join_outputs(graph, outputs)
        states.append(
            [join_directions(graph, _without_sentinels(graph, recurrent, state, 2)) for state in after]
        )
    return Encoded(x, states)


def _add_layer(
    graph: GraphBuilder, recurrent: Recurrent, layer: int, x: str, needs_outputs: bool
) -> list[str]:
    """[S, B, in] -> outputs [S, directions, B, H + 2] where needed, last h and c [directions, B, H + 2]."""
    name, ways = f"layer_{layer}", [weights_of(recurrent, layer, way) for way in recurrent.ways]
    weights, scales = _add_weights(graph, name, ways, layer == 0)
    h, c = _add_first_states(graph, name, recurrent)
    peephole = _add_peepholes(graph, name, ways)
    inputs = [x, *weights, "lengths", h, c, peephole, *scales]
    return add_operator(graph, recurrent, name, inputs, needs_outputs, "DynamicQuantizeLSTM", more=2)


def _add_weights(
    graph: GraphBuilder, name: str, ways: Sequence[Weights], is_first: bool
) -> tuple[list[str], list[str]]:
    """W and R as bytes and B, with the sentinels' columns; the scales and zeros of W and R."""
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"W": [], "R": []}
    added = []
    for way in ways:
        read = operator_order(way.cell, way.read)  # [in, 4H]
        parts = [read] if is_first else np.split(read, len(ways))  # each followed by its two sentinels
        read = np.concatenate([np.pad(part, ((0, 2), (0, 0))) for part in parts])
        back = np.pad(operator_order(way.cell, way.back), ((0, 2), (0, 0)))  # [H + 2, 4H]
        for kind, weight in (("W", read), ("R", back)):
            found[kind].append(quantise(_with_sentinels(weight, (0, 0, 0, 0))))
        (bias,) = _with_sentinels(biases(way).sum(0, keepdims=True), (-OPEN, largest()[0], OPEN, 0))
        added.append(np.concatenate((bias, np.zeros_like(bias))))
    weights, scales = [], []
    for kind, of_ways in found.items():
        weights.append(graph.weight(f"{name}.{kind}", np.stack([weight for weight, _ in of_ways])))
        scale = np.stack([scale for _, scale in of_ways])  # [directions, 4(H + 2)]
        scales.append(graph.weight(f"{name}.{kind}_scale", scale))
        scales.append(graph.weight(f"{name}.{kind}_zero", np.zeros(scale.shape, np.int8)))
    return [*weights, graph.weight(f"{name}.B", np.stack(added))], scales


def _add_peepholes(graph: GraphBuilder, name: str, ways: Sequence[Weights]) -> str:
    """P [directions, 3 (H + 2)], 0 for the sentinels; empty where the cell has no peepholes."""
    found = [blocks for way in ways if (blocks := operator_peephole(way)) is not None]  # [3, H] each
    if not found:
        return ""
    return graph.weight(f"{name}.P", np.stack([np.pad(blocks, ((0, 0), (0, 2))).ravel() for blocks in found]))


def _add_first_states(graph: GraphBuilder, name: str, recurrent: Recurrent) -> list[str]:
    """Hidden and cell state before the first token, [directions, B, H + 2]: 0, but for the sentinels."""
    _, cell, hidden = largest()
    states = []
    for kind, extreme in (("h", hidden), ("c", cell)):
        state = np.zeros((len(recurrent.ways), 1, recurrent.hidden_size + 2), np.float32)
        state[..., -2:] = extreme, -extreme
        start = graph.weight(f"{name}.{kind}", state)
        states.append(graph.add("Expand", [start, "state_shape"], f"{name}.initial_{kind}"))
    return states


def _with_sentinels(columns: np.ndarray, gates: tuple[float, float, float, float]) -> np.ndarray:
    """Adds two units to each gate block of [..., 4H]: the sentinels' columns of the gates i, o, f, c."""
    blocks = np.split(columns, 4, axis=1)
    units = [np.full((len(columns), 2), gate, np.float32) for gate in gates]
    return np.concatenate([part for pair in zip(blocks, units, strict=True) for part in pair], axis=1)


def _without_sentinels(graph: GraphBuilder, recurrent: Recurrent, output: str, axis: int) -> str:
    units = [graph.integers("first_unit", 0), graph.integers("last_unit", recurrent.hidden_size)]
    return graph.add("Slice", [output, *units, graph.axis(axis)], f"{output}.real")
