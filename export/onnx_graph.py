"""Nodes and weights of an ONNX graph in the making. Knows nothing of networks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import bundle.manifest

OPSET = 18  # CUDA has no recurrent operators above 21
IR_VERSION = 8
CONTRIBUTED = "com.microsoft"  # ONNX Runtime's own operators
CONTRIBUTED_OPERATORS = {"DynamicQuantizeLSTM", "MatMulIntegerToFloat"}
ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "uint8": TensorProto.UINT8,
}


class RangeError(Exception):
    """A weight is too large for a profile's numbers. The text says which, and how large it may be."""


class GraphBuilder:
    """Collects nodes and weights; `weight` and `add` return the name of what they define."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}

    def weight(self, name: str, values: np.ndarray | np.generic) -> str:
        """A constant. One name always means the same values."""
        array = np.asarray(values)
        tensor = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        assert self._weights.setdefault(name, tensor) == tensor, f"{name} is two things"
        return name

    def integers(self, name: str, *values: int) -> str:
        """A constant of whole numbers in one dimension, such as a shape or an axis."""
        return self.weight(name, np.array(values, np.int64))

    def axis(self, number: int) -> str:
        """An axis, as an input of a node."""
        return self.integers("last_axis" if number < 0 else f"axis_{number}", number)

    def half(self, name: str, values: np.ndarray) -> str:
        """A float16 constant. Raises RangeError where a value is beyond what that holds."""
        largest, most = np.abs(values).max(initial=0), np.finfo(np.float16).max
        if largest > most:
            raise RangeError(f"{name} has {largest:.6g}; float16, and so this profile, has up to {most:.6g}")
        return self.weight(name, values.astype(np.float16))

    def halved(self, name: str, values: np.ndarray) -> str:
        """A float32 constant that is stored as float16: the runtime converts it when it loads the graph."""
        return self.add("Cast", [self.half(f"{name}.half", values)], name, to=TensorProto.FLOAT)

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """A node with one output."""
        return self.add_many(operator, inputs, [output], **attributes)[0]

    def add_many(
        self, operator: str, inputs: Sequence[str], outputs: list[str], **attributes: Any
    ) -> list[str]:
        """A node with several outputs; an empty name leaves one out."""
        domain = CONTRIBUTED if operator in CONTRIBUTED_OPERATORS else ""
        name = next(output for output in outputs if output)
        self._nodes.append(helper.make_node(operator, inputs, outputs, name, domain=domain, **attributes))
        return outputs

    def finish(self, declared: bundle.manifest.Graph) -> bytes:
        """The serialised model, with just the inputs and outputs that the bundle promises."""
        graph = helper.make_graph(
            self._nodes,
            declared.file.removesuffix(".onnx"),
            [_value_info(tensor) for tensor in declared.inputs],
            [_value_info(tensor) for tensor in declared.outputs],
            list(self._weights.values()),
        )
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain == CONTRIBUTED for node in self._nodes):
            opsets.append(helper.make_opsetid(CONTRIBUTED, 1))
        model = helper.make_model(
            graph, producer_name="chairlift", opset_imports=opsets, ir_version=IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()


def _value_info(tensor: bundle.manifest.Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, ELEMENT_TYPES[tensor.dtype], tensor.shape)
