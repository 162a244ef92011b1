"""The floor under a decoder step: its matrix products, and nothing else.

Their shapes are read from the decoder itself. Letters: R rows, K and N the sides of a weight.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

PRODUCTS = frozenset({"MatMul", "Gemm", "MatMulInteger", "MatMulIntegerToFloat"})


def shapes(decoder: bytes) -> list[tuple[int, int]]:
    """[K, N] of each product with a constant weight in a graph."""
    graph = onnx.load_from_string(decoder).graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type in PRODUCTS and len(shape := weights.get(node.input[1], ())) == 2:
            assert not any(a.name == "transB" and a.i for a in node.attribute), "a weight is [K, N] here"
            found.append((int(shape[0]), int(shape[1])))
    return found


def product_graph(sides: list[tuple[int, int]], integer: bool) -> bytes:
    """A graph of these products side by side: x_i [R, K] -> y_i [R, N]; bytes in and int32 out, or floats."""
    random = np.random.default_rng(1)
    read, written = (
        (TensorProto.UINT8, TensorProto.INT32) if integer else (TensorProto.FLOAT, TensorProto.FLOAT)
    )
    nodes, inputs, outputs, weights = [], [], [], []
    for i, (k, n) in enumerate(sides):
        weight = random.integers(-64, 64, (k, n)).astype(np.int8)
        weights.append(onnx.numpy_helper.from_array(weight if integer else weight / np.float32(64), f"w_{i}"))
        inputs.append(helper.make_tensor_value_info(f"x_{i}", read, ["R", k]))
        outputs.append(helper.make_tensor_value_info(f"y_{i}", written, ["R", n]))
        operator = "MatMulInteger" if integer else "MatMul"
        nodes.append(
            helper.make_node(operator, [f"x_{i}", f"w_{i}", *(["zero"] if integer else [])], [f"y_{i}"])
        )
    if integer:
        weights.append(onnx.numpy_helper.from_array(np.array(128, np.uint8), "zero"))
    graph = helper.make_graph(nodes, "products", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()
