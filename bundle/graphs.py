"""What the two ONNX graphs of a bundle must be. Knows nothing about folders, text or hashes.

Letters of shapes: B batch, S source length, R rows, L layers, H hidden, V target tokens that can be emitted.
"""

from bundle.errors import BundleError
from bundle.manifest import (
    Architecture,
    Dtype,
    Graph,
    ProfileName,
    Tensor,
    Vocabulary,
    candidates,
    graph_file,
)
from bundle.onnx_file import OnnxFile, OnnxTensor, read_onnx

__all__ = ["check_graph", "decoder_graph", "encoder_graph"]

# The CUDA provider has no recurrent operators above opset 21; below 17 nothing of ours was ever tested.
OPSETS = {"": range(17, 22), "com.microsoft": range(1, 2)}

# Operators that end in a bounded time and know nothing random. Left out on purpose: loops, branches, random
# numbers, strings, and dynamic quantisation, whose scale is taken over all rows: neighbours change an answer.
# The one exception is DynamicQuantizeLSTM, which export pins with sentinels; the golden cases, alone and
# together, tell a pinned one from another before a model is ready.
_OPERATORS = """
Abs Add And ArgMax ArgMin BitShift Cast CastLike Ceil Clip Compress Concat Constant ConstantOfShape CumSum
DequantizeLinear Div Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements
GatherND Gelu Gemm Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LSTM LayerNormalization
LeakyRelu Less LessOrEqual Log LogSoftmax MatMul MatMulInteger Max Mean Min Mod Mul Neg NonZero Not OneHot
Or PRelu Pad Pow QLinearMatMul QuantizeLinear RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
ReverseSequence Round ScatterElements ScatterND Selu Shape Sigmoid Sign Size Slice Softmax Softplus Softsign
Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor
com.microsoft.DynamicQuantizeLSTM com.microsoft.MatMulIntegerToFloat
"""
OPERATORS = frozenset(_OPERATORS.split())

# A look-up of ids may be seen through these: they neither make nor lose an id.
_PASSED_THROUGH = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_SAME_ROWS = frozenset({"Cast", "DequantizeLinear", "Identity"})


def encoder_graph(architecture: Architecture, profile: ProfileName) -> Graph:
    """Return the encoder's tensors: source ids and lengths in, the decoder's first state out."""
    inputs = (
        Tensor(name="source", dtype="int64", shape=("B", "S")),
        Tensor(name="lengths", dtype="int32", shape=("B",)),
    )
    return Graph(
        file=graph_file("encoder", profile), inputs=inputs, outputs=_state(architecture, profile, "", "B")
    )


def decoder_graph(architecture: Architecture, vocabulary: Vocabulary, profile: ProfileName) -> Graph:
    """Return the decoder's tensors: tokens and state in; what may follow and the next state out."""
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
    return Graph(
        file=graph_file("decoder", profile),
        inputs=(token, *_state(architecture, profile, "", "R")),
        outputs=(*outputs, *_state(architecture, profile, "next_", "R")),
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
    """Hidden states are bytes in int8: they lie in [-1, 1], 128 means 0 and 1/127 is the scale."""
    dtypes: dict[str, Dtype] = {"h": "uint8" if profile == "int8" else "float32"}
    if architecture.cell == "lstm":
        dtypes["c"] = "float32"
    return tuple(
        Tensor(name=f"{prefix}{kind}_{layer}", dtype=dtype, shape=(rows, architecture.hidden_size))
        for kind, dtype in dtypes.items()
        for layer in range(architecture.decoder_layers)
    )


def _check_safe(file: str, model: OnnxFile) -> None:
    if model.external:
        raise BundleError(
            f"{file}: tensor {model.external[0][:64]!r} has external data; only data in the file is allowed"
        )
    for count, what in (
        (model.functions, "model-local functions"),
        (model.training_graphs, "training graphs"),
        (model.sub_graphs, "sub-graphs"),
    ):
        if count:
            raise BundleError(f"{file}: has {count} {what}; none are allowed")
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
