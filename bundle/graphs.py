"""What the two ONNX graphs of a bundle must be. Knows nothing about folders, text or hashes.

Letters of shapes: B batch, S source length, R rows, L layers, H hidden, D encoder output, V target tokens
that can be emitted.

What an encoder makes of a source is state, which each step makes anew (an input X of the decoder that has an
output next_X), and memory, which no step changes (every other input but `token`).
"""

from bundle.errors import BundleError
from bundle.manifest import Architecture, Graph, Tensor, Vocabulary, candidates, graph_file
from bundle.onnx_file import OnnxFile, OnnxTensor, read_onnx
from bundle.values import Dtype, ProfileName

# A decoder is run with memory whose source axis S is a multiple of this, padded with zeros: few widths to
# bind and to prove, and no product so small that a runtime computes it in another order.
SOURCE_BLOCK = 16

# The CUDA provider has no recurrent operators above opset 21; below 17 nothing of ours was ever tested.
OPSETS = {"": range(17, 22), "com.microsoft": range(1, 2)}

# Operators that end in a bounded time and know nothing random. A Scan takes as many steps as its input is
# long, and has none inside. Left out on purpose: other loops, branches, random numbers, strings, and dynamic
# quantisation, whose scale is taken over all rows: neighbours change an answer.
# The one exception is DynamicQuantizeLSTM, which export pins with sentinels; the golden cases, alone and
# together, tell a pinned one from another before a model is ready.
_OPERATORS = """
Abs Add And ArgMax ArgMin BitShift Cast CastLike Ceil Clip Compress Concat Constant ConstantOfShape CumSum
DequantizeLinear Div Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements
GatherND Gelu Gemm Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LSTM LayerNormalization
LeakyRelu Less LessOrEqual Log LogSoftmax MatMul MatMulInteger Max Mean Min Mod Mul Neg NonZero Not OneHot
Or PRelu Pad Pow QLinearMatMul QuantizeLinear RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
ReverseSequence Round Scan ScatterElements ScatterND Selu Shape Sigmoid Sign Size Slice Softmax Softplus
Softsign Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor
com.microsoft.DynamicQuantizeLSTM com.microsoft.MatMulIntegerToFloat
"""
OPERATORS = frozenset(_OPERATORS.split())

# A look-up of ids may be seen through these: they neither make nor lose an id.
_PASSED_THROUGH = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_SAME_ROWS = frozenset({"Cast", "DequantizeLinear", "Identity"})


def encoder_graph(architecture: Architecture, profile: ProfileName) -> Graph:
    """Return the encoder's tensors: source ids and lengths in, the decoder's first state and memory out."""
    inputs = (
        Tensor(name="source", dtype="int64", shape=("B", "S")),
        Tensor(name="lengths", dtype="int32", shape=("B",)),
    )
    outputs = (*_state(architecture, profile, "", "B"), *_memory(architecture, profile, "B"))
    return Graph(file=graph_file("encoder", profile), inputs=inputs, outputs=outputs)


def decoder_graph(architecture: Architecture, vocabulary: Vocabulary, profile: ProfileName) -> Graph:
    """Return the decoder's tensors: tokens, state and memory in; what may follow and the next state out.

    With attention, the last output is how much of it each source token got.
    """
    emitted = vocabulary.target_size - 1  # V: all but <S>
    best = candidates(vocabulary)  # K
    token = Tensor(name="token", dtype="int64", shape=("R",))
    outputs = (
        Tensor(name="next_token", dtype="int64", shape=("R",)),
        Tensor(name="next_score", dtype="float32", shape=("R",)),
        Tensor(name="top_tokens", dtype="int64", shape=("R", best)),
        Tensor(name="top_scores", dtype="float32", shape=("R", best)),
        Tensor(name="log_probs", dtype="float32", shape=("R", emitted)),
    )
    alignments = Tensor(name="alignments", dtype="float32", shape=("R", "S"))
    return Graph(
        file=graph_file("decoder", profile),
        inputs=(token, *_state(architecture, profile, "", "R"), *_memory(architecture, profile, "R")),
        outputs=(
            *outputs,
            *_state(architecture, profile, "next_", "R"),
            *(() if architecture.attention == "none" else (alignments,)),
        ),
    )


def check_graph(graph: Graph, data: bytes, ids: str, rows: int) -> None:
    """Raise BundleError unless the ONNX file has exactly the graph's tensors and nothing that may not be run.

    `ids` is the input that an embedding of `rows` rows is looked up with; where no look-up is in plain sight,
    the rows are left to the golden cases.
    """
    model = read_onnx(graph.file, data)
    _check_safe(graph.file, model)
    for side, allowed, found in (
        ("inputs", graph.inputs, model.inputs),
        ("outputs", graph.outputs, model.outputs),
    ):
        expected = [_text(tensor) for tensor in allowed]
        actual = [_text(tensor) for tensor in found]
        if actual != expected:
            raise BundleError(
                f"{graph.file}: {side} are {_list(actual)}; exactly {_list(expected)} are allowed"
            )
    for found_rows in sorted(_embedding_rows(model, ids)):
        if found_rows != rows:
            raise BundleError(f"{graph.file}: {ids} looks up {found_rows} embedding rows; {rows} are allowed")


def _state(architecture: Architecture, profile: ProfileName, prefix: str, rows: str) -> tuple[Tensor, ...]:
    """h and c of each layer, and the last attentional vector where it is fed back."""
    shape = (rows, architecture.hidden_size)
    kinds = {"h": _unit_dtype(profile)}
    if architecture.cell.startswith("lstm"):
        kinds["c"] = "float32"
    tensors = [
        Tensor(name=f"{prefix}{kind}_{layer}", dtype=dtype, shape=shape)
        for kind, dtype in kinds.items()
        for layer in range(architecture.decoder_layers)
    ]
    if architecture.input_feeding:
        tensors.append(Tensor(name=f"{prefix}fed", dtype=kinds["h"], shape=shape))
    return tuple(tensors)


def _memory(architecture: Architecture, profile: ProfileName, rows: str) -> tuple[Tensor, ...]:
    """What attention compares with and adds up, or the encoder's last state, or nothing.

    The last column of `values` is 1 at a source's own tokens; at padding, everything in both is 0.
    """
    size = architecture.encoder_hidden_size
    if architecture.attention != "none":
        return (
            Tensor(name="keys", dtype="float32", shape=(rows, "S", architecture.hidden_size)),
            Tensor(name="values", dtype="float32", shape=(rows, "S", size + 1)),
        )
    if architecture.context == "every-step":
        return (Tensor(name="summary", dtype=_unit_dtype(profile), shape=(rows, size)),)
    return ()


def _unit_dtype(profile: ProfileName) -> Dtype:
    """Of what lies in [-1, 1]: in int8 bytes, where 128 means 0 and 1/127 is the scale."""
    dtypes: dict[ProfileName, Dtype] = {"fp32": "float32", "fp16": "float16", "int8": "uint8"}
    return dtypes[profile]


def _check_safe(file: str, model: OnnxFile) -> None:
    if model.external:
        raise BundleError(
            f"{file}: tensor {model.external[0][:64]!r} has external data; only data in the file is allowed"
        )
    for count, what in (
        (model.functions, "model-local functions"),
        (model.training_graphs, "training graphs"),
    ):
        if count:
            raise BundleError(f"{file}: has {count} {what}; none are allowed")
    for operator in model.sub_graphs:
        if operator != "Scan":
            raise BundleError(f"{file}: a sub-graph of {operator[:64]!r}; only those of Scan are allowed")
    if "" not in model.opsets:
        raise BundleError(f"{file}: names no opset of the domain ai.onnx; one is required")
    for domain, opset in model.opsets.items():
        if domain not in OPSETS:
            raise BundleError(f"{file}: operator domain {domain[:64]!r}; {list(OPSETS)} are allowed")
        if opset not in OPSETS[domain]:
            allowed = f"{OPSETS[domain].start} to {OPSETS[domain].stop - 1}"
            raise BundleError(f"{file}: opset {opset} of domain {domain!r}; {allowed} is allowed")
    for operator in sorted(model.operators - OPERATORS):
        raise BundleError(f"{file}: operator {operator[:64]!r}; allowed are those in bundle/graphs.py")


def _embedding_rows(model: OnnxFile, ids: str) -> set[int]:
    """Return the row counts of the stored tensors that a Gather plainly looks up with an input."""
    rows = {name: shape[0] for name, shape in model.tensors.items() if shape}
    same_ids, found = {ids}, set()
    for node in model.nodes:
        first = node.inputs[0] if node.inputs else ""
        if node.operator in _PASSED_THROUGH and first in same_ids:
            same_ids.update(node.outputs)
        if node.operator in _SAME_ROWS and first in rows:
            rows.update(dict.fromkeys(node.outputs, rows[first]))
        if node.operator == "Gather" and first in rows and node.inputs[1:2] and node.inputs[1] in same_ids:
            found.add(rows[first])
    return found


def _text(tensor: Tensor | OnnxTensor) -> str:
    shape = "any shape" if tensor.shape is None else f"[{','.join(map(str, tensor.shape))}]"
    return f"{tensor.name[:64]!r} {tensor.dtype} {shape[:64]}"


def _list(tensors: list[str]) -> str:
    return "(" + "; ".join(tensors[:40]) + ")"
