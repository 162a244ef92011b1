"""The int8 profile's graphs: integer products with scales that no neighbour can change.

Weights are whole numbers, one scale a column; activations are bytes, one scale for ever. Every sum of
products is exact in 32 bits, so neither the order of adding nor the rows that share a run change an answer.

* A hidden state lies in [-1, 1] by construction (o * tanh(c)): its scale is 1/127, and the decoder's state is
  kept as the bytes themselves. The first layer's product with the embedding is a table, one row a token.
* The encoder is ONNX Runtime's DynamicQuantizeLSTM, which takes the scale of each run from the largest and
  least number in the batch. Sentinels pin both, and weigh nothing: two hidden units that stay at +1 and -1
  (exactly where, says export/saturation.py), and two constant features beside the embedding.
* A cell state is bounded by the source's length alone. The bridge reads it in two bytes.

Letters: B batch, S source length, R rows, E embedding, H hidden, V tokens that can be emitted.
"""

import numpy as np
from torch import nn

from bundle.graphs import decoder_graph, encoder_graph
from bundle.manifest import Architecture, Vocabulary
from export.graphs import join_directions, lstm_state, onnx_gates
from export.onnx_graph import GraphBuilder
from export.saturation import OPEN, largest
from export.selection import add_selection
from training.model import Seq2Seq

UNIT = np.float32(1 / 127)  # scale of what lies in [-1, 1]
ZERO = np.uint8(128)  # the byte that means 0
LARGEST_PAIR = 128  # two neighbouring weights' sizes: AVX2's byte product adds pairs in 16 bits


def quantise(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[in, out] -> int8 [in, out] and one float32 scale a column [out], with zero at zero.

    No two neighbours in a column are together larger than 128: 255 * 128 < 2**15, so that processors which
    add pairs of products in 16 bits (vpmaddubsw) stay exact too.
    """
    size = np.abs(weight)
    pairs = size[:-1] + size[1:] if len(weight) > 1 else size
    scale = np.maximum(size.max(0) / 127, pairs.max(0) / (LARGEST_PAIR - 1))  # rounding may add one
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


def build_int8_encoder(model: Seq2Seq, architecture: Architecture, max_source_length: int) -> bytes:
    """source [B, S], lengths [B] -> the decoder's first state: hidden as bytes, cell as float32."""
    graph = GraphBuilder()
    table = model.encoder.embedding.weight.detach().numpy()
    bound = np.full((len(table), 1), np.abs(table).max(), np.float32)
    embedding = graph.weight("embedding", np.concatenate((table, bound, -bound), axis=1))
    time_first = graph.add("Transpose", ["source"], "source_by_time", perm=[1, 0])  # [S, B]
    x = graph.add("Gather", [embedding, time_first], "embedded")  # [S, B, E + 2]
    one = graph.weight("one", np.array([1], np.int64))
    batch = graph.add("Shape", ["lengths"], "batch")
    graph.add("Concat", [one, batch, one], "state_shape", axis=0)  # 1, B, 1
    lstm = model.encoder.lstm
    hidden, cell = [], []
    for layer in range(lstm.num_layers):
        x, h, c = _encoder_layer(graph, lstm, layer, x, last=layer == lstm.num_layers - 1)
        hidden.append(h)
        cell.append(c)
    for i in range(architecture.decoder_layers):
        layer = min(i, lstm.num_layers - 1)
        h, c = hidden[layer], cell[layer]
        if model.bridge is not None:
            read = _to_bytes(graph, h, UNIT, f"read_h_{i}")
            h = graph.add(
                "Tanh", [_linear(graph, read, model.bridge.hidden[i], f"bridge_h_{i}")], f"first_h_{i}"
            )
            _two_byte_linear(graph, c, model.bridge.cell[i], max_source_length, f"c_{i}")
        else:
            graph.add("Identity", [c], f"c_{i}")
        _to_bytes(graph, h, UNIT, f"h_{i}")
    return graph.finish(encoder_graph(architecture, "int8"))


def _encoder_layer(
    graph: GraphBuilder, lstm: nn.LSTM, layer: int, x: str, last: bool
) -> tuple[str, str, str]:
    """[S, B, in] -> outputs [S, B, directions * (H + 2)], last h and c [B, directions * H]."""
    name, size = f"layer_{layer}", lstm.hidden_size
    weights, scales, bias = _encoder_weights(graph, lstm, layer)
    inputs = [x, *weights, bias, "lengths", *_first_states(graph, lstm, name), "", *scales]
    outputs = ["" if last else f"{name}.Y", f"{name}.Y_h", f"{name}.Y_c"]
    direction = "bidirectional" if lstm.bidirectional else "forward"
    graph.add_many("DynamicQuantizeLSTM", inputs, outputs, hidden_size=size + 2, direction=direction)
    joined = f"{name}.outputs"
    if not last:  # [S, directions, B, H + 2] -> [S, B, directions * (H + 2)]
        swapped = graph.add("Transpose", [outputs[0]], f"{name}.outputs_swapped", perm=[0, 2, 1, 3])
        to = graph.weight("outputs_shape", np.array([0, 0, -1], np.int64))
        graph.add("Reshape", [swapped, to], joined)
    bounds = [
        graph.weight(key, np.array([value], np.int64))
        for key, value in (("from", 0), ("to", size), ("axis", 2))
    ]
    last_states = [
        join_directions(graph, graph.add("Slice", [output, *bounds], f"{output}.real"))
        for output in outputs[1:]
    ]
    return joined, *last_states


def _encoder_weights(graph: GraphBuilder, lstm: nn.LSTM, layer: int) -> tuple[list[str], list[str], str]:
    """A layer's W and R as bytes, their scales and zeros, and its bias; all with the sentinels' columns."""
    name, ways = f"layer_{layer}", _ways(lstm)

    def parameter(kind: str, way: str) -> np.ndarray:
        return onnx_gates(getattr(lstm, f"{kind}_l{layer}{way}"))  # [4H, ...], gates i, o, f, c

    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"W": [], "R": []}
    biases = []
    for way in ways:
        read = parameter("weight_ih", way).T  # [in, 4H]
        parts = [read] if layer == 0 else np.split(read, len(ways))  # each followed by its two sentinels
        read = np.concatenate([np.pad(part, ((0, 2), (0, 0))) for part in parts])
        back = np.pad(parameter("weight_hh", way).T, ((0, 2), (0, 0)))  # [H + 2, 4H]
        for kind, weight in (("W", read), ("R", back)):
            found[kind].append(quantise(_with_sentinels(weight, (0, 0, 0, 0))))
        bias = (parameter("bias_ih", way) + parameter("bias_hh", way))[None]
        (bias,) = _with_sentinels(bias, (-OPEN, largest()[0], OPEN, 0))
        biases.append(np.concatenate((bias, np.zeros_like(bias))))
    weights, scales = [], []
    for kind, of_ways in found.items():
        weights.append(graph.weight(f"{name}.{kind}", np.stack([weight for weight, _ in of_ways])))
        scale = np.stack([scale for _, scale in of_ways])  # [directions, 4(H + 2)]
        scales.append(graph.weight(f"{name}.{kind}_scale", scale))
        scales.append(graph.weight(f"{name}.{kind}_zero", np.zeros(scale.shape, np.int8)))
    return weights, scales, graph.weight(f"{name}.B", np.stack(biases))


def _first_states(graph: GraphBuilder, lstm: nn.LSTM, name: str) -> list[str]:
    """Hidden and cell state before the first token, [directions, B, H + 2]: 0, but for the sentinels."""
    _, cell, hidden = largest()
    states = []
    for kind, extreme in (("h", hidden), ("c", cell)):
        state = np.zeros((len(_ways(lstm)), 1, lstm.hidden_size + 2), np.float32)
        state[..., -2:] = extreme, -extreme
        start = graph.weight(f"{name}.{kind}", state)
        states.append(graph.add("Expand", [start, "state_shape"], f"{name}.initial_{kind}"))
    return states


def _ways(lstm: nn.LSTM) -> list[str]:
    return ["", "_reverse"] if lstm.bidirectional else [""]


def _with_sentinels(columns: np.ndarray, gates: tuple[float, float, float, float]) -> np.ndarray:
    """Adds two units to each gate block of [..., 4H]: the sentinels' columns of the gates i, o, f, c."""
    blocks = np.split(columns, 4, axis=1)
    units = [np.full((len(columns), 2), gate, np.float32) for gate in gates]
    return np.concatenate([part for pair in zip(blocks, units, strict=True) for part in pair], axis=1)


def build_int8_decoder(model: Seq2Seq, architecture: Architecture, vocabulary: Vocabulary) -> bytes:
    """token [R], state -> what may follow, next state. Hidden states are bytes, cell states float32."""
    graph = GraphBuilder()
    lstm = model.decoder.lstm
    x = ""
    for layer in range(lstm.num_layers):
        x = _cell(graph, model, layer, x)
    logits = _linear(graph, x, model.decoder.output, "logits")  # [R, V]
    add_selection(graph, logits, vocabulary)
    return graph.finish(decoder_graph(architecture, vocabulary, "int8"))


def _cell(graph: GraphBuilder, model: Seq2Seq, layer: int, x: str) -> str:
    """One LSTM cell: x and h bytes [R, H], c [R, H] -> next h in bytes. Gates i, f, g, o as in PyTorch."""
    name, lstm = f"cell_{layer}", model.decoder.lstm
    read, back, *biases = (
        getattr(lstm, f"{kind}_l{layer}").detach().numpy()
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    bias = biases[0] + biases[1]  # [4H]
    if layer == 0:
        table = model.decoder.embedding.weight.detach().numpy() @ read.T + bias  # [V + 1, 4H]
        fixed = graph.add("Gather", [graph.weight("token_gates", table), "token"], f"{name}.token")
        product = _product(graph, f"h_{layer}", back.T, f"{name}.product")
        gates = graph.add("Add", [product, fixed], f"{name}.gates")  # [R, 4H]
    else:
        both = graph.add("Concat", [x, f"h_{layer}"], f"{name}.input", axis=1)  # bytes [R, 2H]
        gates = _product(graph, both, np.concatenate((read.T, back.T)), f"{name}.gates", bias)
    hidden = lstm_state(graph, gates, layer, f"{name}.hidden")
    return _to_bytes(graph, hidden, UNIT, f"next_h_{layer}")


def _to_bytes(graph: GraphBuilder, x: str, scale: np.float32, output: str) -> str:
    """float32 -> uint8 of a fixed scale; what lies outside its 255 steps is clipped."""
    return graph.add("QuantizeLinear", [x, _scale(graph, scale), graph.weight("zero", ZERO)], output)


def _scale(graph: GraphBuilder, scale: np.float32) -> str:
    return graph.weight(f"scale_{float(scale):.9g}", scale)


def _product(
    graph: GraphBuilder,
    x: str,
    weight: np.ndarray,
    output: str,
    bias: np.ndarray | None = None,
    scale: np.float32 = UNIT,
    name: str = "",
) -> str:
    """bytes [R, in] times weight [in, out] -> float32 [R, out]: exact sums, then one multiplication."""
    whole, column_scale = quantise(weight)
    name = name or output  # of the weight
    inputs = [
        x,
        graph.weight(f"{name}.weight", whole),
        _scale(graph, scale),
        graph.weight(f"{name}.scale", column_scale),
        graph.weight("zero", ZERO),
        "",
    ]
    if bias is not None:
        inputs.append(graph.weight(f"{name}.bias", bias))
    return graph.add("MatMulIntegerToFloat", inputs, output)


def _linear(graph: GraphBuilder, x: str, layer: nn.Linear, output: str) -> str:
    """bytes [R, in] in [-1, 1] -> float32 [R, out]."""
    weight, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
    return _product(graph, x, weight, output, bias)


def _two_byte_linear(graph: GraphBuilder, x: str, layer: nn.Linear, bound: int, output: str) -> str:
    """float32 [R, in] in [-bound, bound] -> float32 [R, out]: a coarse byte, a fine one of what it left."""
    coarse = np.float32(bound / 127)
    fine = np.float32(coarse / 254)  # a rounding error is at most half a coarse step
    weight, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
    high = _to_bytes(graph, x, coarse, f"{output}.high")
    told = graph.add(
        "DequantizeLinear", [high, _scale(graph, coarse), graph.weight("zero", ZERO)], f"{output}.told"
    )
    low = _to_bytes(graph, graph.add("Sub", [x, told], f"{output}.left"), fine, f"{output}.low")
    parts = [
        _product(graph, high, weight, f"{output}.coarse", bias, coarse, output),
        _product(graph, low, weight, f"{output}.fine", None, fine, output),
    ]
    return graph.add("Add", parts, output)
