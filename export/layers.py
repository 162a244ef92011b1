"""The encoder's recurrent layers in float32: one ONNX operator a layer runs all steps and does the lengths.

Letters: B batch, S source length, E embedding, H hidden of one direction, D of all, G gates of the operator.
"""

from typing import NamedTuple

import numpy as np

from export.arithmetic import Float32
from export.gates import Weights, operator_of, operator_order, weights_of
from export.onnx_graph import GraphBuilder
from training.model import Encoder
from training.recurrent import Recurrent


class Encoded(NamedTuple):
    """What the layers made of a source."""

    outputs: str  # of the last layer, [S, B, D], 0 at padding; empty where nobody asked for them
    states: list[list[str]]  # of each layer, after a row's last token: h, and in an LSTM c, each [B, D]


def add_layers(graph: Float32, encoder: Encoder, needs_outputs: bool) -> Encoded:
    """source [B, S], lengths [B] -> what all the layers made of it."""
    recurrent = encoder.recurrent
    accompanied = operator_of(recurrent.cell)[0] == "RNN"
    source, lengths = _accompany(graph) if accompanied else ("source", "lengths")
    x = look_up(graph, encoder.embedding.weight.detach().cpu().numpy(), source)
    states = []
    for layer in range(recurrent.num_layers):
        reads_on = needs_outputs or layer < recurrent.num_layers - 1
        x, last = _add_layer(graph, recurrent, layer, x, lengths, reads_on)
        states.append(last)
    if accompanied:
        x = _without_last(graph, x, 1) if x else x
        states = [[_without_last(graph, state, 0) for state in last] for last in states]
    return Encoded(x, states)


def _accompany(graph: GraphBuilder) -> tuple[str, str]:
    """Source and lengths of one row more: ONNX Runtime's RNN multiplies a lone row in another order.

    The first source's first token: CUDA cannot pad whole numbers, and puts them together.
    """
    ends = [graph.integers("zeroth", 0), graph.integers("first", 1)]
    first = graph.add("Slice", ["source", *ends, ends[0]], "first_source")  # [1, S]
    one = graph.weight("one_token", np.array([1], np.int32))
    return (
        graph.add("Concat", ["source", first], "accompanied", axis=0),
        graph.add("Concat", ["lengths", one], "accompanied_lengths", axis=0),
    )


def _without_last(graph: GraphBuilder, x: str, axis: int) -> str:
    bounds = [graph.integers("zeroth", 0), graph.integers("last", -1), graph.axis(axis)]
    return graph.add("Slice", [x, *bounds], f"{x}.own")


def look_up(graph: Float32, embedding: np.ndarray, source: str = "source") -> str:
    """source [B, S] -> [S, B, E]."""
    time_first = graph.add("Transpose", [source], "source_by_time", perm=[1, 0])  # [S, B]
    return graph.add("Gather", [graph.float_weight("embedding", embedding), time_first], "embedded")


def _add_layer(
    graph: Float32, recurrent: Recurrent, layer: int, x: str, lengths: str, needs_outputs: bool
) -> tuple[str, list[str]]:
    """[S, B, in] -> outputs [S, B, D] where needed, last states [B, D] each."""
    name, ways = f"layer_{layer}", [weights_of(recurrent, layer, way) for way in recurrent.ways]
    weights = [
        graph.float_weight(f"{name}.{key}", np.stack(values))
        for key, values in {
            "W": [operator_order(way.cell, way.read).T for way in ways],
            "R": [operator_order(way.cell, way.back).T for way in ways],
            "B": [biases(way).ravel() for way in ways],
        }.items()
    ]
    outputs, *last = add_operator(graph, recurrent, name, [x, *weights, lengths], needs_outputs)
    return join_outputs(graph, outputs), [join_directions(graph, state) for state in last]


def biases(weights: Weights) -> np.ndarray:
    """Those of the input and of the recurrent product, [2, G * H]."""
    back = np.zeros_like(weights.bias) if weights.back_bias is None else weights.back_bias
    return operator_order(weights.cell, np.stack((weights.bias, back)))


def add_operator(
    graph: GraphBuilder,
    recurrent: Recurrent,
    name: str,
    inputs: list[str],
    needs_outputs: bool,
    kind: str = "",
    more: int = 0,
) -> list[str]:
    """A layer's operator, or one of another kind that does the same with `more` units a direction.

    Its outputs [S, directions, B, H], empty where nobody needs them, and last states [directions, B, H] each.
    """
    operator, attributes = operator_of(recurrent.cell)
    outputs = [f"{name}.Y" if needs_outputs else "", f"{name}.Y_h", f"{name}.Y_c"]
    return graph.add_many(
        kind or operator,
        inputs,
        outputs[: 1 + recurrent.cell.states],
        hidden_size=recurrent.hidden_size + more,
        direction="bidirectional" if recurrent.bidirectional else "forward",
        **attributes,
    )


def join_outputs(graph: GraphBuilder, outputs: str) -> str:
    """[S, directions, B, H] -> [S, B, D]; nothing stays nothing."""
    if not outputs:
        return ""
    shape = graph.integers("all_directions", 0, 0, -1)
    swapped = graph.add("Transpose", [outputs], f"{outputs}.swapped", perm=[0, 2, 1, 3])
    return graph.add("Reshape", [swapped, shape], f"{outputs}.joined")


def join_directions(graph: GraphBuilder, state: str) -> str:
    """[directions, B, H] -> [B, D]."""
    shape = graph.integers("both_directions", 0, -1)
    swapped = graph.add("Transpose", [state], f"{state}.swapped", perm=[1, 0, 2])
    return graph.add("Reshape", [swapped, shape], f"{state}.joined")
