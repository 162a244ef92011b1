"""The two ONNX graphs of a bundle, written from the weights, operator by operator.

A traced export freezes the time axis or the batch; these graphs leave both free, and lengths are exact for
padded rows. Letters: B batch, S source length, R rows, E embedding, H hidden, V tokens that can be emitted.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import bundle.manifest
from bundle.graphs import decoder_graph, encoder_graph
from bundle.manifest import Architecture, Vocabulary
from training.model import Seq2Seq

OPSET = 18  # CUDA has no recurrent operators above 21
IR_VERSION = 8
ELEMENT_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "int32": TensorProto.INT32}
TORCH_TO_ONNX = (0, 3, 1, 2)  # gate blocks i, f, g, o in PyTorch; ONNX wants i, o, f, c


class _Graph:
    """Nodes and weights in the making. Every method returns the name of what it computes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, values: np.ndarray | Tensor) -> str:
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def linear(self, x: str, layer: nn.Linear, output: str) -> str:
        """[B, in] -> [B, out]."""
        weight = self.weight(f"{output}.weight", layer.weight.T)
        return self.add("Gemm", [x, weight, self.weight(f"{output}.bias", layer.bias)], output)

    def finish(self, declared: bundle.manifest.Graph) -> bytes:
        """The serialised model, with just the inputs and outputs that the bundle promises."""
        graph = helper.make_graph(
            self.nodes,
            declared.file.removesuffix(".onnx"),
            [_value_info(tensor) for tensor in declared.inputs],
            [_value_info(tensor) for tensor in declared.outputs],
            self.weights,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, producer_name="chairlift", opset_imports=opsets, ir_version=IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()


def _value_info(tensor: bundle.manifest.Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, ELEMENT_TYPES[tensor.dtype], tensor.shape)


def build_encoder(model: Seq2Seq, architecture: Architecture) -> bytes:
    """source [B, S], lengths [B] -> the decoder's first state. One LSTM operator a layer does the lengths."""
    graph = _Graph()
    embedding = graph.weight("embedding", model.encoder.embedding.weight)
    time_first = graph.add("Transpose", ["source"], "source_by_time", perm=[1, 0])  # [S, B]
    x = graph.add("Gather", [embedding, time_first], "embedded")  # [S, B, E]
    lstm = model.encoder.lstm
    hidden, cell = [], []
    for layer in range(lstm.num_layers):
        last = layer == lstm.num_layers - 1
        x, h, c = _encoder_layer(graph, lstm, layer, x, needs_outputs=not last)
        hidden.append(h)
        cell.append(c)
    for i in range(architecture.decoder_layers):
        if model.bridge is None:
            graph.add("Identity", [hidden[i]], f"h_{i}")
            graph.add("Identity", [cell[i]], f"c_{i}")
            continue
        layer = min(i, lstm.num_layers - 1)
        graph.add("Tanh", [graph.linear(hidden[layer], model.bridge.hidden[i], f"bridge_h_{i}")], f"h_{i}")
        graph.linear(cell[layer], model.bridge.cell[i], f"c_{i}")
    return graph.finish(encoder_graph(architecture))


def _encoder_layer(
    graph: _Graph, lstm: nn.LSTM, layer: int, x: str, needs_outputs: bool
) -> tuple[str, str, str]:
    """[S, B, in] -> outputs [S, B, directions * H] where needed, last h and c [B, directions * H]."""
    directions = ["", "_reverse"] if lstm.bidirectional else [""]
    name = f"layer_{layer}"

    def stacked(kind: str) -> np.ndarray:
        return np.stack([_gates(getattr(lstm, f"{kind}_l{layer}{way}")) for way in directions])

    weights = [
        graph.weight(f"{name}.W", stacked("weight_ih")),
        graph.weight(f"{name}.R", stacked("weight_hh")),
        graph.weight(f"{name}.B", np.concatenate((stacked("bias_ih"), stacked("bias_hh")), axis=1)),
    ]
    outputs = [f"{name}.Y" if needs_outputs else "", f"{name}.Y_h", f"{name}.Y_c"]
    graph.nodes.append(
        helper.make_node(
            "LSTM",
            [x, *weights, "lengths"],
            outputs,
            name=name,
            hidden_size=lstm.hidden_size,
            direction="bidirectional" if lstm.bidirectional else "forward",
        )
    )
    joined = f"{name}.outputs"
    if needs_outputs:  # [S, directions, B, H] -> [S, B, directions * H]
        shape = graph.weight(f"{name}.outputs_shape", np.array([0, 0, -1], np.int64))
        swapped = graph.add("Transpose", [outputs[0]], f"{name}.outputs_swapped", perm=[0, 2, 1, 3])
        graph.add("Reshape", [swapped, shape], joined)
    return joined, _join_directions(graph, outputs[1]), _join_directions(graph, outputs[2])


def _join_directions(graph: _Graph, state: str) -> str:
    """[directions, B, H] -> [B, directions * H]."""
    shape = graph.weight(f"{state}.shape", np.array([0, -1], np.int64))
    swapped = graph.add("Transpose", [state], f"{state}.swapped", perm=[1, 0, 2])
    return graph.add("Reshape", [swapped, shape], f"{state}.joined")


def _gates(parameter: Tensor) -> np.ndarray:
    """Reorders a parameter's gate blocks, [4H, ...]."""
    blocks = np.split(parameter.detach().cpu().numpy(), 4)
    return np.concatenate([blocks[index] for index in TORCH_TO_ONNX])


def build_decoder(model: Seq2Seq, architecture: Architecture, vocabulary: Vocabulary) -> bytes:
    """token [R], state -> next token, its score, every log-probability, next state. Primitive cells."""
    graph = _Graph()
    lstm = model.decoder.lstm
    embedding = graph.weight("embedding", model.decoder.embedding.weight)
    x = graph.add("Gather", [embedding, "token"], "embedded")  # [R, E]
    for layer in range(lstm.num_layers):
        x = _cell(graph, lstm, layer, x)
    logits = graph.linear(x, model.decoder.output, "logits")  # [R, V]
    graph.add("ArgMax", [logits], "next_token", axis=1, keepdims=0)  # the lowest id wins a tie
    graph.add("LogSoftmax", [logits], "log_probs", axis=1)
    axis = graph.weight("axis", np.array([1], np.int64))
    graph.add("ReduceMax", ["log_probs", axis], "next_score", keepdims=0)
    return graph.finish(decoder_graph(architecture, vocabulary))


def _cell(graph: _Graph, lstm: nn.LSTM, layer: int, x: str) -> str:
    """One LSTM cell: x [R, in], h and c [R, H] -> next h. Gates i, f, g, o as in PyTorch, one product."""
    name = f"cell_{layer}"
    weights = [getattr(lstm, f"{kind}_l{layer}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    joined = np.concatenate([weight.detach().cpu().numpy().T for weight in weights[:2]])  # [in + H, 4H]
    both = graph.add("Concat", [x, f"h_{layer}"], f"{name}.input", axis=1)  # [R, in + H]
    bias = graph.weight(f"{name}.bias", weights[2] + weights[3])
    gates = graph.add(
        "Gemm", [both, graph.weight(f"{name}.weight", joined), bias], f"{name}.gates"
    )  # [R, 4H]
    parts = [f"{name}.{gate}" for gate in ("i", "f", "g", "o")]
    graph.nodes.append(helper.make_node("Split", [gates], parts, name=f"{name}.split", axis=1, num_outputs=4))
    i, f, o = (graph.add("Sigmoid", [parts[k]], f"{parts[k]}_gate") for k in (0, 1, 3))
    g = graph.add("Tanh", [parts[2]], f"{parts[2]}_gate")
    kept = graph.add("Mul", [f, f"c_{layer}"], f"{name}.kept")
    new = graph.add("Mul", [i, g], f"{name}.new")
    cell = graph.add("Add", [kept, new], f"next_c_{layer}")
    squashed = graph.add("Tanh", [cell], f"{name}.squashed")
    return graph.add("Mul", [o, squashed], f"next_h_{layer}")
