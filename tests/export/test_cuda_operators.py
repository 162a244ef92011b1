"""No fp32 or fp16 graph asks for what would leave a GPU for the CPU: an operator, a type or a shape."""

import numpy as np
import onnx
import pytest

import export.layers
import export.scanned_layers
from export.cells import add_cell
from tests.export.shapes import SHAPES, SIZES, graphs_of, network
from training.cells import CELLS

PROFILES = ["fp32", "fp16"]
LOOKS = [
    {},
    {"attention": "additive", "input_feeding": True},
    {"attention": "dot"},
    {"context": "every-step"},
]

# Those of ours that ONNX Runtime's list of kernels (docs/OperatorKernels.md) has for CUDA at opset 18, by
# the types of a node's first input and first output. A recurrent operator takes the attributes below, and no
# input after its first states: peepholes would be one. What a Scan runs is looked at as well.
ON_CUDA = {
    "FLOAT": """Add ArgMax Cast Concat Div Exp GRU Gather Gemm Greater Identity LSTM LogSoftmax MatMul Mul RNN
        ReduceMax Reshape Scan Sigmoid Slice Split Squeeze Sub Tanh TopK Transpose Unsqueeze Where""",
    "FLOAT16": "Cast Concat Gemm MatMul Squeeze Unsqueeze Where",
    "BOOL": "Cast Greater Less Transpose Unsqueeze Where",
    "INT32": "Cast Concat Less Unsqueeze",
    "INT64": "Add ArgMax Cast Concat CumSum Less Mul Slice Transpose Unsqueeze",
}
RECURRENT = {"RNN": {}, "LSTM": {}, "GRU": {"linear_before_reset": 1}}
INPUTS = 7  # x, W, R, B, lengths, first h, first c


def operators(graph: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(graph).graph.node}


def elsewhere(encoder_or_decoder: bytes) -> set[str]:
    """What CUDA would leave to the CPU, and why."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(encoder_or_decoder), strict_mode=True)
    return _elsewhere(model.graph, {})


def _elsewhere(graph: onnx.GraphProto, around: dict[str, int]) -> set[str]:
    """`around`: the types of what is known outside of the graph."""
    values = (*graph.value_info, *graph.input, *graph.output)
    types = around | {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {weight.name: weight.data_type for weight in graph.initializer}
    found = set()
    for node in graph.node:
        kind = node.op_type
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        for name in (node.input[0], next(filter(None, node.output))):
            type_ = onnx.TensorProto.DataType.Name(types.get(name, 0))
            if kind not in ON_CUDA.get(type_, "").split():
                found.add(f"{kind} of {type_}")
        if kind == "Scan":
            found |= _elsewhere(given["body"], types)
        if kind in RECURRENT:
            more = {name: value for name, value in given.items() if name not in ("direction", "hidden_size")}
            if more != RECURRENT[kind]:
                found.add(f"{kind} with {more}")
            if any(node.input[INPUTS:]):
                found.add(f"{kind} with peepholes")
    return found


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("profile", PROFILES)
def test_every_node_runs_on_cuda(profile, cell, look):
    encoder, decoder = graphs_of(profile, *network(SHAPES[-1], SIZES[0], cell=cell, **look))
    assert elsewhere(encoder) | elsewhere(decoder) == set()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_step_has_no_operator_of_a_whole_layer(profile):
    """A captured graph bears none: the cell is made of primitives."""
    _, decoder = graphs_of(profile, *network(SHAPES[-1], SIZES[0], attention="general"))
    assert not operators(decoder) & {"GRU", "LSTM", "RNN"}


def test_a_shape_that_is_read_is_seen():
    """Negative control: int8 reads one, and is for the CPU alone."""
    encoder, _ = graphs_of("int8", *network(SHAPES[-1], SIZES[0]))
    assert "Shape of INT32" in elsewhere(encoder)


def test_a_type_that_cuda_lacks_is_seen(monkeypatch):
    """Negative control: CUDA pads floats, and no whole numbers."""

    def padded(graph):
        one = graph.weight("one_length", [0, 1])
        return "source", graph.add("Pad", ["lengths", one], "more_lengths")

    monkeypatch.setattr(export.layers, "_accompany", padded)
    encoder, _ = graphs_of("fp32", *network(SHAPES[-1], SIZES[0], cell="rnn"))
    assert elsewhere(encoder) == {"Pad of INT32"}


def test_peepholes_of_the_operator_are_seen():
    """Negative control: CUDA's has none."""
    model = onnx.load_from_string(graphs_of("fp32", *network(SHAPES[-1], SIZES[0]))[0])
    layer = next(node for node in model.graph.node if node.op_type == "LSTM")
    layer.input.extend(["", "", "peepholes"])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((2, 6), np.float32), "peepholes"))
    assert elsewhere(model.SerializeToString()) == {"LSTM with peepholes"}


def test_what_a_scan_runs_is_seen(monkeypatch):
    """Negative control: CUDA has no Softsign."""
    monkeypatch.setattr(export.scanned_layers, "add_cell", with_softsign)
    encoder, _ = graphs_of("fp32", *network(SHAPES[-1], SIZES[0], cell="lstm-peephole"))
    assert elsewhere(encoder) == {"Softsign of FLOAT"}


def with_softsign(graph, weights, name, parts, driven):
    add_cell(graph, weights, name, parts, driven)
    graph.add("Softsign", [f"next_h_{name}"], f"{name}.soft")


def test_gates_that_the_operator_couples_are_seen(monkeypatch):
    """Negative control: CUDA's does not."""
    monkeypatch.setattr(export.layers, "operator_of", lambda _: ("LSTM", {"input_forget": 1}))
    encoder, _ = graphs_of("fp32", *network(SHAPES[-1], SIZES[0], cell="lstm-coupled"))
    assert elsewhere(encoder) == {"LSTM with {'input_forget': 1}"}
