"""How large a hidden state can come out of ONNX Runtime's LSTM on this machine, and how to get it.

sigmoid(o) * tanh(c) is below 1 in mathematics. The runtime's functions are quotients of polynomials: for some
57,000 of the floats between 8 and 9 its tanh comes out one or two units in the last place above 1, for 20
between 17.4 and 18 its sigmoid does. A bound that is to hold for every neighbour must be the largest of all
products, which is the product of the largest factors: rounding keeps the order.
"""

import functools

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from export.runtime import session

OPEN = 20.0  # a gate's input from which on its sigmoid is 1, and a cell state from which on its tanh is
CELL_STATES = (8.0, 9.0)  # below, tanh is under 1; above, it is 1
OUTPUT_GATES = (15.0, 20.0)  # the same for sigmoid


@functools.cache
def largest() -> tuple[float, float, float]:
    """Output gate's input, cell state and hidden state of the largest hidden state. Every float is tried."""
    cells, gates = _floats(*CELL_STATES), _floats(*OUTPUT_GATES)
    cell = cells[np.argmax(hidden_states(np.full_like(cells, OPEN), cells))]
    gate = gates[np.argmax(hidden_states(gates, np.full_like(gates, OPEN)))]
    (hidden,) = hidden_states(np.array([gate]), np.array([cell]))
    return float(gate), float(cell), float(hidden)


def hidden_states(gates: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Hidden states for inputs of the output gate [B] and cell states [B] that are kept: float32 [B]."""
    shape: tuple[int | str, ...] = (1, "B", 1)
    weights = {  # gates i, o, f, c
        "W": np.array([[[0], [1], [0], [0]]], np.float32),  # the output gate's input is what is read
        "R": np.zeros((1, 4, 1), np.float32),
        "B": np.array([[-OPEN, 0, OPEN, 0, 0, 0, 0, 0]], np.float32),
    }
    node = helper.make_node("LSTM", ["x", "W", "R", "B", "", "h", "c"], ["", "next_h"], hidden_size=1)
    graph = helper.make_graph(
        [node],
        "saturation",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xhc"],
        [helper.make_tensor_value_info("next_h", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    x, c = (array.astype(np.float32).reshape(1, -1, 1) for array in (gates, cells))
    (hidden,) = session(model.SerializeToString()).run(None, {"x": x, "h": np.zeros_like(x), "c": c})
    return np.asarray(hidden).ravel()


def _floats(first: float, last: float) -> np.ndarray:
    """Every float32 between two positive ones."""
    bits = [int(np.float32(bound).view(np.int32)) for bound in (first, last)]
    return np.arange(bits[0], bits[1] + 1, dtype=np.int32).view(np.float32)
