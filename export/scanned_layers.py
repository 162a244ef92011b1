"""The encoder's layers of cells that CUDA has no operator for, LSTMs with peepholes: a Scan of single steps.

In float32, as those of export/layers.py are. A step is the decoder's, of primitive operators. Where a source
has ended, or read from its end has not begun, its state stays and its output is 0.
Letters: B batch, S source length, H hidden of one direction, D of all, G gates.
"""

import numpy as np
from onnx import GraphProto, TensorProto, ValueInfoProto, helper

from export.arithmetic import Float32
from export.cells import add_cell
from export.gates import Weights, weights_of
from export.layers import Encoded, look_up
from export.padding import add_zeros
from training.model import Encoder


class Body(Float32):
    """A graph inside another one: its nodes are its own, its weights those of the graph around it."""

    def __init__(self, around: Float32) -> None:
        super().__init__()
        self.around = around

    def weight(self, name: str, values: np.ndarray | np.generic) -> str:
        """A constant of the graph around."""
        return self.around.weight(name, values)

    def float_weight(self, name: str, values: np.ndarray) -> str:
        """The same, as the profile stores it."""
        return self.around.float_weight(name, values)

    def close(self, name: str, inputs: list[ValueInfoProto], outputs: list[ValueInfoProto]) -> GraphProto:
        """What the node runs."""
        return helper.make_graph(self._nodes, name, inputs, outputs)


def add_scanned_layers(graph: Float32, encoder: Encoder, needs_outputs: bool) -> Encoded:
    """source [B, S], lengths [B], own [B, S] -> what all the layers made of it."""
    recurrent = encoder.recurrent
    own = graph.add("Transpose", ["own"], "own_by_time", perm=[1, 0])
    column = graph.add("Unsqueeze", [own, graph.axis(2)], "own_column")  # [S, B, 1]
    zeros = add_zeros(graph, np.zeros((1, recurrent.hidden_size), np.float32), "start")  # [B, H]
    x = look_up(graph, encoder.embedding.weight.detach().cpu().numpy())
    states = []
    for layer in range(recurrent.num_layers):
        ways = [
            _add_scan(
                graph, weights_of(recurrent, layer, way), f"layer_{layer}{way}", [x, column, zeros], back
            )
            for back, way in enumerate(recurrent.ways)
        ]
        *state, x = (
            graph.joined(parts, f"layer_{layer}.{kind}") for kind, *parts in zip("hcy", *ways, strict=True)
        )
        states.append(state)
    return Encoded(x if needs_outputs else "", states)


def _add_scan(graph: Float32, weights: Weights, name: str, inputs: list[str], back: int) -> list[str]:
    """x [S, B, in], own [S, B, 1], zeros [B, H] -> last h and c [B, H], outputs [S, B, H]."""
    x, own, zeros = inputs
    read = graph.add("MatMul", [x, graph.float_weight(f"{name}.W", weights.read)], f"{name}.read")
    driven = graph.add("Add", [read, graph.float_weight(f"{name}.B", weights.bias)], f"{name}.driven")
    return graph.add_many(
        "Scan",
        [zeros, zeros, driven, own],
        [f"{name}.{kind}" for kind in ("h", "c", "y")],
        body=_step(graph, weights, name),
        num_scan_inputs=2,
        scan_input_directions=[back, back],
        scan_output_directions=[back],
    )


def _step(graph: Float32, weights: Weights, name: str) -> GraphProto:
    """h and c [B, H], driven [B, G * H], own [B, 1] -> the next h and c, and h or 0."""
    body = Body(graph)
    driven, own = f"{name}.driven_now", f"{name}.own_now"
    add_cell(body, weights, name, [], driven)
    kept = [
        body.add("Where", [own, f"next_{state}_{name}", f"{state}_{name}"], f"kept_{state}_{name}")
        for state in ("h", "c")
    ]
    told = body.add("Where", [own, kept[0], body.weight("nothing", np.float32(0))], f"{name}.told")
    hidden = len(weights.back)
    return body.close(
        name,
        [
            *(_tensor(f"{state}_{name}", TensorProto.FLOAT, hidden) for state in ("h", "c")),
            _tensor(driven, TensorProto.FLOAT, weights.read.shape[1]),
            _tensor(own, TensorProto.BOOL, 1),
        ],
        [_tensor(output, TensorProto.FLOAT, hidden) for output in (*kept, told)],
    )


def _tensor(name: str, type_: int, size: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, type_, ["B", size])
