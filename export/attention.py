"""Attention in the graphs, always in float32: what the encoder leaves for it, and what a step makes of that.

No width of the source axis may change a bit. Widths are whole blocks (bundle/graphs.py), and what is added up
over the axis is added up by products alone: ReduceSum groups its terms otherwise for another width. So the
product that adds up the values adds up the exponentials too. The values have a last column for it, of ones at
a source's own tokens and of zeros at padding, which is the mask as well: padding weighs 0 exactly.

Letters: B batch, S source length, R rows, H hidden size of the decoder, D size of an encoder output.
"""

import numpy as np
from onnx import TensorProto

from export.arithmetic import Float32
from training.attention import Attention

FARTHEST = np.float32(-1e30)  # below every score, for padding


def add_memory(graph: Float32, attention: Attention, outputs: str) -> None:
    """Encoder outputs [S, B, D], own [B, S] -> keys [B, S, H], values [B, S, D + 1]; at padding all are 0."""
    values = graph.add("Transpose", [outputs], "outputs", perm=[1, 0, 2])
    ones = graph.add("Cast", ["own"], "ones", to=TensorProto.FLOAT)
    graph.add("Concat", [values, graph.add("Unsqueeze", [ones, graph.axis(2)], "column")], "values", axis=2)
    if attention.key is None:
        graph.add("Identity", [values], "keys")
    else:
        _, unit = graph.unit("Identity", [values], "key_source")
        graph.linear([unit], attention.key, "keys")


def add_attention(graph: Float32, attention: Attention, size: int, query: str, unit: str) -> str:
    """The query [R, H], in float32 and as a unit -> the context [R, D] as a unit; makes `alignments` [R, S].

    `size` is D.
    """
    scores = _scores(graph, attention, query, unit)
    ends = [graph.integers(f"column_{k}", k) for k in (size, size + 1)]
    column = graph.add("Slice", ["values", *ends, graph.axis(2)], "column")  # [R, S, 1]
    own = graph.add("Squeeze", [column, graph.axis(2)], "own")  # [R, S]
    mask = graph.add("Greater", [own, graph.weight("nothing", np.float32(0))], "mask")
    seen = graph.add("Where", [mask, scores, graph.weight("farthest", FARTHEST)], "seen")
    largest = graph.add("ReduceMax", [seen, graph.axis(1)], "largest", keepdims=1)
    powers = graph.add("Exp", [graph.add("Sub", [seen, largest], "below")], "powers")
    weights = graph.add("Where", [mask, powers, "nothing"], "weights")  # [R, S]
    beside = graph.add("Unsqueeze", [weights, graph.axis(1)], "weights_beside")
    sums = graph.add("MatMul", [beside, "values"], "sums_beside")  # [R, 1, D + 1]
    parts = ["weighted", "total"]
    graph.add_many(
        "Split",
        [
            graph.add("Squeeze", [sums, graph.axis(1)], "sums"),
            graph.integers("sizes", size, 1),
        ],
        parts,
        axis=1,
    )
    graph.add("Div", [weights, "total"], "alignments")
    return graph.unit("Div", parts, "context")[1]


def _scores(graph: Float32, attention: Attention, query: str, unit: str) -> str:
    """How well each key goes with the query: [R, S]."""
    if attention.query is None or attention.energy is None:
        beside = graph.add("Unsqueeze", [query, graph.axis(1)], "query_beside")  # [R, 1, H]
        turned = graph.add("Transpose", ["keys"], "keys_turned", perm=[0, 2, 1])
        products = graph.add("MatMul", [beside, turned], "scores_beside")  # [R, 1, S]
        return graph.add("Squeeze", [products, graph.axis(1)], "scores")
    asked = graph.linear([unit], attention.query, "query")
    beside = graph.add("Unsqueeze", [asked, graph.axis(1)], "query_beside")
    both = graph.add("Tanh", [graph.add("Add", [beside, "keys"], "both_sum")], "both")  # [R, S, H]
    energy = graph.weight("energy", attention.energy.weight.detach().numpy().T)  # [H, 1]
    return graph.add("Squeeze", [graph.add("MatMul", [both, energy], "energies"), graph.axis(2)], "scores")
