"""The fp32 profile's two ONNX graphs, written from the weights, operator by operator.

A traced export freezes the time axis or the batch; these graphs leave both free, and lengths are exact for
padded rows. Letters: B batch, S source length, R rows, E embedding, H hidden, V tokens that can be emitted.
"""

import numpy as np
from torch import Tensor, nn

from bundle.graphs import decoder_graph, encoder_graph
from bundle.manifest import Architecture, Vocabulary
from export.onnx_graph import GraphBuilder
from export.selection import add_selection
from training.model import Seq2Seq

TORCH_TO_ONNX = (0, 3, 1, 2)  # gate blocks i, f, g, o in PyTorch; ONNX wants i, o, f, c


def build_encoder(model: Seq2Seq, architecture: Architecture) -> bytes:
    """source [B, S], lengths [B] -> the decoder's first state. One LSTM operator a layer does the lengths."""
    graph = GraphBuilder()
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
        graph.add("Tanh", [_linear(graph, hidden[layer], model.bridge.hidden[i], f"bridge_h_{i}")], f"h_{i}")
        _linear(graph, cell[layer], model.bridge.cell[i], f"c_{i}")
    return graph.finish(encoder_graph(architecture, "fp32"))


def _encoder_layer(
    graph: GraphBuilder, lstm: nn.LSTM, layer: int, x: str, needs_outputs: bool
) -> tuple[str, str, str]:
    """[S, B, in] -> outputs [S, B, directions * H] where needed, last h and c [B, directions * H]."""
    directions = ["", "_reverse"] if lstm.bidirectional else [""]
    name = f"layer_{layer}"

    def stacked(kind: str) -> np.ndarray:
        return np.stack([onnx_gates(getattr(lstm, f"{kind}_l{layer}{way}")) for way in directions])

    weights = [
        graph.weight(f"{name}.W", stacked("weight_ih")),
        graph.weight(f"{name}.R", stacked("weight_hh")),
        graph.weight(f"{name}.B", np.concatenate((stacked("bias_ih"), stacked("bias_hh")), axis=1)),
    ]
    outputs = [f"{name}.Y" if needs_outputs else "", f"{name}.Y_h", f"{name}.Y_c"]
    direction = "bidirectional" if lstm.bidirectional else "forward"
    graph.add_many(
        "LSTM", [x, *weights, "lengths"], outputs, hidden_size=lstm.hidden_size, direction=direction
    )
    joined = f"{name}.outputs"
    if needs_outputs:  # [S, directions, B, H] -> [S, B, directions * H]
        shape = graph.weight(f"{name}.outputs_shape", np.array([0, 0, -1], np.int64))
        swapped = graph.add("Transpose", [outputs[0]], f"{name}.outputs_swapped", perm=[0, 2, 1, 3])
        graph.add("Reshape", [swapped, shape], joined)
    return joined, join_directions(graph, outputs[1]), join_directions(graph, outputs[2])


def _linear(graph: GraphBuilder, x: str, layer: nn.Linear, output: str) -> str:
    """[B, in] -> [B, out]."""
    weight = graph.weight(f"{output}.weight", layer.weight.T)
    return graph.add("Gemm", [x, weight, graph.weight(f"{output}.bias", layer.bias)], output)


def join_directions(graph: GraphBuilder, state: str) -> str:
    """[directions, B, H] -> [B, directions * H]."""
    shape = graph.weight(f"{state}.shape", np.array([0, -1], np.int64))
    swapped = graph.add("Transpose", [state], f"{state}.swapped", perm=[1, 0, 2])
    return graph.add("Reshape", [swapped, shape], f"{state}.joined")


def onnx_gates(parameter: Tensor) -> np.ndarray:
    """Reorders a parameter's gate blocks, [4H, ...]."""
    blocks = np.split(parameter.detach().cpu().numpy(), 4)
    return np.concatenate([blocks[index] for index in TORCH_TO_ONNX])


def build_decoder(model: Seq2Seq, architecture: Architecture, vocabulary: Vocabulary) -> bytes:
    """token [R], state -> next token, its score, every log-probability, next state. Primitive cells."""
    graph = GraphBuilder()
    lstm = model.decoder.lstm
    embedding = graph.weight("embedding", model.decoder.embedding.weight)
    x = graph.add("Gather", [embedding, "token"], "embedded")  # [R, E]
    for layer in range(lstm.num_layers):
        x = _cell(graph, lstm, layer, x)
    logits = _linear(graph, x, model.decoder.output, "logits")  # [R, V]
    add_selection(graph, logits, vocabulary)
    return graph.finish(decoder_graph(architecture, vocabulary, "fp32"))


def _cell(graph: GraphBuilder, lstm: nn.LSTM, layer: int, x: str) -> str:
    """One LSTM cell: x [R, in], h and c [R, H] -> next h. Gates i, f, g, o as in PyTorch, one product."""
    name = f"cell_{layer}"
    weights = [getattr(lstm, f"{kind}_l{layer}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    joined = np.concatenate([weight.detach().cpu().numpy().T for weight in weights[:2]])  # [in + H, 4H]
    both = graph.add("Concat", [x, f"h_{layer}"], f"{name}.input", axis=1)  # [R, in + H]
    bias = graph.weight(f"{name}.bias", weights[2] + weights[3])
    gates = graph.add(
        "Gemm", [both, graph.weight(f"{name}.weight", joined), bias], f"{name}.gates"
    )  # [R, 4H]
    return lstm_state(graph, gates, layer, f"next_h_{layer}")


def lstm_state(graph: GraphBuilder, gates: str, layer: int, hidden: str) -> str:
    """Gates i, f, g, o before their functions, [R, 4H], and c [R, H] -> next c, and next h under a name."""
    name = f"cell_{layer}"
    parts = [f"{name}.{gate}" for gate in ("i", "f", "g", "o")]
    graph.add_many("Split", [gates], parts, axis=1, num_outputs=4)
    i, f, o = (graph.add("Sigmoid", [parts[k]], f"{parts[k]}_gate") for k in (0, 1, 3))
    g = graph.add("Tanh", [parts[2]], f"{parts[2]}_gate")
    kept = graph.add("Mul", [f, f"c_{layer}"], f"{name}.kept")
    new = graph.add("Mul", [i, g], f"{name}.new")
    cell = graph.add("Add", [kept, new], f"next_c_{layer}")
    squashed = graph.add("Tanh", [cell], f"{name}.squashed")
    return graph.add("Mul", [o, squashed], hidden)
