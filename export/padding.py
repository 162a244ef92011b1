"""What is padding in a batch of sources, and zeros for each of them: without a shape that is read.

A runtime for GPUs would read a shape on the CPU. Letters: B batch, S source length.
"""

import numpy as np
from onnx import TensorProto

from export.onnx_graph import GraphBuilder


def add_own(graph: GraphBuilder) -> None:
    """source [B, S], lengths [B] -> own: bool [B, S], whether a token is the source's own, not padding."""
    zero, one = (graph.weight(name, np.array(k, np.int64)) for k, name in enumerate(("zero_id", "one_id")))
    every = graph.add("Add", [graph.add("Mul", ["source", zero], "no_ids"), one], "every")  # 1, [B, S]
    places = graph.add("CumSum", [every, one], "places", exclusive=1)  # 0 to S - 1
    lengths = graph.add("Cast", ["lengths"], "long_lengths", to=TensorProto.INT64)
    ends = graph.add("Unsqueeze", [lengths, graph.axis(1)], "ends")  # [B, 1]
    graph.add("Less", [places, ends], "own")


def add_zeros(graph: GraphBuilder, zeros: np.ndarray, output: str) -> str:
    """lengths [B], zeros [1, H] -> as many zeros for each source, [B, H]."""
    zero = graph.weight(f"{output}.zeros", zeros)
    column = graph.add("Unsqueeze", ["lengths", graph.axis(-1)], f"{output}.lengths")
    never = graph.add("Less", [column, graph.weight("no_length", np.int32(0))], f"{output}.never")  # [B, 1]
    return graph.add("Where", [never, zero, zero], output)
