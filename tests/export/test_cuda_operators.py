"""No fp32 or fp16 graph asks for what would leave a GPU for the CPU: an operator it lacks, a shape."""

import onnx
import pytest

from tests.export.shapes import SHAPES, SIZES, graphs_of, network

PROFILES = ["fp32", "fp16"]
LOOKS = [
    {},
    {"attention": "additive", "input_feeding": True},
    {"attention": "dot"},
    {"context": "every-step"},
]

# Those of our graphs that ONNX Runtime's list of kernels (docs/OperatorKernels.md) has for CUDA at opset 18.
_ON_CUDA = """
Add ArgMax Cast Concat CumSum Div Exp GRU Gather Gemm Greater Identity LSTM Less LogSoftmax MatMul Mul Pad RNN
ReduceMax Reshape Sigmoid Slice Split Squeeze Sub Tanh TopK Transpose Unsqueeze Where
"""
ON_CUDA = frozenset(_ON_CUDA.split())


def operators(graph: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(graph).graph.node}


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "lstm-peephole-coupled"])
@pytest.mark.parametrize("profile", PROFILES)
def test_every_operator_runs_on_cuda(profile, cell, look):
    encoder, decoder = graphs_of(profile, *network(SHAPES[-1], SIZES[0], cell=cell, **look))
    assert operators(encoder) | operators(decoder) <= ON_CUDA


@pytest.mark.parametrize("profile", PROFILES)
def test_a_step_has_no_operator_of_a_whole_layer(profile):
    """A captured graph bears none: the cell is made of primitives."""
    _, decoder = graphs_of(profile, *network(SHAPES[-1], SIZES[0], attention="general"))
    assert not operators(decoder) & {"GRU", "LSTM", "RNN"}


def test_a_shape_that_is_read_is_seen():
    """Negative control: int8 reads one, and is for the CPU alone."""
    encoder, _ = graphs_of("int8", *network(SHAPES[-1], SIZES[0]))
    assert "Shape" in operators(encoder)
