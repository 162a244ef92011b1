"""ONNX files read without the onnx package: what a good one says, and each thing that makes one bad."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundle.errors import BundleError
from bundle.onnx_file import OnnxTensor, read_onnx

Publish = Callable[..., Path]
Change = Callable[[onnx.ModelProto], object]


def external_tensor(name: str = "weights") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def branch(name: str, *initialisers: TensorProto, node: onnx.NodeProto | None = None) -> onnx.GraphProto:
    """Return a sub-graph for an If."""
    inner = node or helper.make_node("Constant", [], ["inner"], value_float=1.0)
    output = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [])
    return helper.make_graph([inner], name, [], [output], list(initialisers))


def choice(then: onnx.GraphProto) -> onnx.NodeProto:
    return helper.make_node("If", ["condition"], ["chosen"], then_branch=then, else_branch=branch("else"))


def sparse(tensor: TensorProto, indices: TensorProto | None = None) -> onnx.SparseTensorProto:
    found = indices or numpy_helper.from_array(np.zeros(2, np.int64), "indices")
    return onnx.SparseTensorProto(values=tensor, indices=found, dims=[4])


def function(node: onnx.NodeProto) -> onnx.FunctionProto:
    return helper.make_function("local", "Local", [], ["y"], [node], [helper.make_opsetid("", 17)])


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["y"], value=tensor)


def with_attribute(**fields: object) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], ["y"])
    node.attribute.append(onnx.AttributeProto(name="value", **fields))
    return node


def test_reads_what_the_onnx_package_wrote(decoder: onnx.ModelProto) -> None:
    model = read_onnx("decoder.fp32.onnx", decoder.SerializeToString())
    assert model.inputs[0] == OnnxTensor("token", "int64", ("R",))
    assert model.inputs[1] == OnnxTensor("h_0", "float32", ("R", 4))
    assert [tensor.name for tensor in model.inputs] == ["token", "h_0", "h_1", "c_0", "c_1"]
    assert model.outputs[4] == OnnxTensor("log_probs", "float32", ("R", 5))
    assert len(model.outputs) == 9
    assert model.opsets == {"": 17}
    assert model.operators == {"Transpose", "Gather", "Constant"}
    assert model.nodes[1].inputs == ("embedding", "ids_first")
    assert model.tensors["embedding"] == (6, 3)
    assert model.external == []
    assert (model.sub_graphs, model.functions, model.training_graphs) == ([], 0, 0)


def test_reads_odd_shapes_and_types() -> None:
    values = [
        helper.make_tensor_value_info("free", TensorProto.FLOAT, None),
        helper.make_tensor_value_info("scalar", TensorProto.INT32, []),
        helper.make_tensor_value_info("unnamed", TensorProto.FLOAT, [None, 2]),
        helper.make_tensor_value_info("double", TensorProto.DOUBLE, [1]),
        onnx.ValueInfoProto(name="bare"),
        helper.make_tensor_sequence_value_info("sequence", TensorProto.FLOAT, [1]),
    ]
    graph = helper.make_graph([], "odd", values[:-1], [])
    model = read_onnx("x.onnx", helper.make_model(graph).SerializeToString())
    assert [(tensor.dtype, tensor.shape) for tensor in model.inputs] == [
        ("float32", None),
        ("int32", ()),
        ("float32", ("?", 2)),
        ("element type 11", (1,)),
        ("no type", None),
    ]
    with pytest.raises(BundleError, match=r"^x\.onnx: not an ONNX model: type: field 4 is unknown"):
        graph = helper.make_graph([], "odd", values, [])
        read_onnx("x.onnx", helper.make_model(graph).SerializeToString())


HIDING_PLACES: dict[str, Change] = {
    "initialiser": lambda model: model.graph.initializer.append(external_tensor()),
    "sparse initialiser": lambda model: model.graph.sparse_initializer.append(sparse(external_tensor())),
    "sparse indices": lambda model: model.graph.sparse_initializer.append(
        sparse(numpy_helper.from_array(np.zeros(2, np.float32)), external_tensor())
    ),
    "attribute": lambda model: model.graph.node.append(constant(external_tensor())),
    "attribute, one of many": lambda model: model.graph.node.append(
        with_attribute(tensors=[external_tensor()], type=onnx.AttributeProto.TENSORS)
    ),
    "sparse attribute": lambda model: model.graph.node.append(
        with_attribute(sparse_tensor=sparse(external_tensor()), type=onnx.AttributeProto.SPARSE_TENSOR)
    ),
    "sparse attribute, one of many": lambda model: model.graph.node.append(
        with_attribute(sparse_tensors=[sparse(external_tensor())], type=onnx.AttributeProto.SPARSE_TENSORS)
    ),
    "sub-graph": lambda model: model.graph.node.append(choice(branch("then", external_tensor()))),
    "attribute in a sub-graph": lambda model: model.graph.node.append(
        choice(branch("then", node=constant(external_tensor())))
    ),
    "sub-graph of a sub-graph": lambda model: model.graph.node.append(
        choice(branch("then", node=choice(branch("deep", external_tensor()))))
    ),
    "sub-graph, one of many": lambda model: model.graph.node.append(
        with_attribute(graphs=[branch("b", external_tensor())], type=onnx.AttributeProto.GRAPHS)
    ),
    "function": lambda model: model.functions.append(function(constant(external_tensor()))),
    "default of a function": lambda model: model.functions.add().attribute_proto.append(
        onnx.AttributeProto(name="value", t=external_tensor())
    ),
    "training": lambda model: model.training_info.add().initialization.CopyFrom(
        branch("i", external_tensor())
    ),
    "training step": lambda model: model.training_info.add().algorithm.CopyFrom(
        branch("a", external_tensor())
    ),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_finds_external_data_wherever_it_hides(
    decoder: onnx.ModelProto, publish_changed: Publish, place: str
) -> None:
    HIDING_PLACES[place](decoder)
    data = decoder.SerializeToString()
    assert read_onnx("decoder.fp32.onnx", data).external == ["weights"]
    with pytest.raises(BundleError, match=r"^decoder\.fp32\.onnx: tensor 'weights' has external data"):
        publish_changed({"decoder.fp32.onnx": data})


@pytest.mark.parametrize("half", ["location", "entries"])
def test_half_of_the_mark_is_enough(decoder: onnx.ModelProto, half: str) -> None:
    tensor = external_tensor()
    tensor.ClearField("external_data" if half == "location" else "data_location")
    decoder.graph.initializer.append(tensor)
    assert read_onnx("decoder.fp32.onnx", decoder.SerializeToString()).external == ["weights"]


def wrap(field: int, data: bytes) -> bytes:
    """Return a length-delimited field."""
    return varint(field << 3 | 2) + varint(len(data)) + data


def varint(number: int) -> bytes:
    low = bytearray()
    while number > 0x7F:
        low.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*low, number])


def test_a_location_that_parsers_cut_to_32_bits(decoder: onnx.ModelProto) -> None:
    tensor = b"\x70" + varint(2**32 + 1)  # field 14, data_location
    data = wrap(7, wrap(5, tensor))
    assert onnx.ModelProto.FromString(data).graph.initializer[0].data_location == TensorProto.EXTERNAL
    assert read_onnx("decoder.fp32.onnx", data).external == [""]


SOUND = wrap(7, wrap(2, b"toy"))


def in_shape(dimension: bytes) -> bytes:
    """Return a model whose only input has one dimension."""
    tensor_type = wrap(2, wrap(1, dimension))
    return wrap(7, wrap(11, wrap(2, wrap(1, tensor_type))))


MALFORMED = {
    "empty": (b"", "the model has no graph"),
    "two graphs": (SOUND + SOUND, "model: graph is given twice"),
    "unknown field": (SOUND + wrap(99, b""), "model: field 99 is unknown"),
    "graph as a number": (SOUND + b"\x38\x01", "model: graph is given twice"),
    "opset as a number": (SOUND + b"\x40\x01", "model: opset_import has the wrong wire type"),
    "field 0": (SOUND + b"\x02\x00", "there is no field 0"),
    "group": (SOUND + b"\x0b\x0c", "wire type 3"),
    "wire type 6": (SOUND + b"\x0e", "wire type 6"),
    "string cut": (SOUND + b"\x0a\x05abc", "field 1 is cut off"),
    "64 bits cut": (SOUND + b"\x09abc", "field 1 is cut off"),
    "32 bits cut": (SOUND + b"\x0dabc", "field 1 is cut off"),
    "number cut": (SOUND + b"\x08\xff", "a number is cut off"),
    "number without end": (SOUND + b"\x08" + b"\xff" * 10, "longer than 64 bits"),
    "number of 65 bits": (SOUND + b"\x08" + b"\xff" * 9 + b"\x02", "longer than 64 bits"),
    "endless string": (SOUND + b"\x0a" + b"\xff" * 9 + b"\x01", "field 1 is cut off"),
    "no UTF-8": (wrap(7, wrap(1, wrap(4, b"\xff"))), "utf-8"),
    "two names": (wrap(7, wrap(5, wrap(8, b"a") + wrap(8, b"b"))), "tensor: name is given twice"),
    "two types": (wrap(7, wrap(11, wrap(2, b"") + wrap(2, b""))), "value_info: type is given twice"),
    "dimension of two kinds": (
        wrap(7, wrap(11, wrap(2, wrap(1, wrap(2, wrap(1, b"\x08\x02" + wrap(2, b"R"))))))),
        "both a value and",
    ),
    "two opsets": (
        SOUND + wrap(8, b"\x10\x11") + wrap(8, wrap(1, b"ai.onnx") + b"\x10\x12"),
        "the domain '' twice",
    ),
    "too many fields": (SOUND + b"\x08\x01" * 200_000, "more than 200000 fields"),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_refuses_a_malformed_file(fault: str) -> None:
    data, words = MALFORMED[fault]
    with pytest.raises(BundleError, match=r"^x\.onnx: not an ONNX model: ") as caught:
        read_onnx("x.onnx", data)
    assert words in str(caught.value)


def test_refuses_graphs_without_a_bottom() -> None:
    data = b""
    for _ in range(1000):
        data = wrap(1, wrap(5, wrap(6, data)))
    with pytest.raises(BundleError, match="nest more than 8 deep"):
        read_onnx("x.onnx", wrap(7, data))


def test_every_cut_is_refused_or_plain(decoder: onnx.ModelProto) -> None:
    """A cut between two fields leaves a readable model; elsewhere a named error, never another exception."""
    data = decoder.SerializeToString()
    refused = 0
    for length in range(len(data)):
        try:
            read_onnx("x.onnx", data[:length])
        except BundleError:
            refused += 1
    assert refused > 0.95 * len(data)


def test_noise_never_raises_anything_else(decoder: onnx.ModelProto) -> None:
    data, chance = decoder.SerializeToString(), random.Random(7)
    refused = 0
    for _ in range(1500):
        noisy = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            noisy[chance.randrange(len(noisy))] = chance.randrange(256)
        try:
            read_onnx("x.onnx", bytes(noisy))
        except BundleError:
            refused += 1
    assert 100 < refused < 1500


def test_packed_and_unpacked_dimensions_are_the_same() -> None:
    for dimensions in (b"\x08\x05\x08\x03", wrap(1, b"\x05\x03")):
        data = wrap(7, wrap(5, wrap(8, b"w") + dimensions))
        assert list(onnx.ModelProto.FromString(data).graph.initializer[0].dims) == [5, 3]
        assert read_onnx("x.onnx", data).tensors == {"w": (5, 3)}
