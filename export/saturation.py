"""How large a hidden state can come out of ONNX Runtime's LSTM on this machine, and from which cell state.

o * tanh(c) is at most 1 in mathematics. The runtime's tanh is a quotient of polynomials, and for some 57,000
of the floats between 8 and 9 it comes out one or two units in the last place above 1. A bound that is to hold
for every neighbour must be the largest of them all.
"""

import functools

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

FROM, TO = np.float32(8), np.float32(9)  # from 9 on the runtime's tanh is 1; below 8 it is under 1
OPEN = 20.0  # a gate's input for which its sigmoid is 1


@functools.cache
def largest_cell_state() -> float:
    """The cell state in [8, 9] whose hidden state is largest, its gates open: every float is tried."""
    first, last = (int(bound.view(np.int32)) for bound in (FROM, TO))
    states = np.arange(first, last + 1, dtype=np.int32).view(np.float32)
    return float(states[np.argmax(hidden_states(states))])


def hidden_states(cell_states: np.ndarray) -> np.ndarray:
    """The hidden states that follow cell states [B] which their gates keep and let through: float32 [B]."""
    shape = [1, "B", 1]
    bias = np.array([[-OPEN, OPEN, OPEN, 0, 0, 0, 0, 0]], np.float32)  # gates i, o, f, c
    weights = {"W": np.zeros((1, 4, 1), np.float32), "R": np.zeros((1, 4, 1), np.float32), "B": bias}
    node = helper.make_node("LSTM", ["x", "W", "R", "B", "", "h", "c"], ["", "next_h"], hidden_size=1)
    graph = helper.make_graph(
        [node],
        "saturation",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xhc"],
        [helper.make_tensor_value_info("next_h", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    cells = cell_states.astype(np.float32).reshape(1, -1, 1)
    zeros = np.zeros_like(cells)
    (hidden,) = session.run(None, {"x": zeros, "h": zeros, "c": cells})
    return np.asarray(hidden).ravel()
