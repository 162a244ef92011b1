"""The rules for the two graphs, each broken once."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundle.errors import BundleError
from bundle.graphs import OPERATORS, check_graph, decoder_graph, encoder_graph
from bundle.manifest import Manifest, Tensor

Change = Callable[[onnx.ModelProto], object]
Publish = Callable[..., Path]


def names(tensors: tuple[object, ...]) -> list[str]:
    return [tensor.name for tensor in tensors]


def shape_of(value: onnx.ValueInfoProto) -> onnx.TensorShapeProto:
    return value.type.tensor_type.shape


def test_the_tensors_of_an_lstm(manifest: Manifest) -> None:
    assert names(manifest.profiles[0].encoder.inputs) == ["source", "lengths"]
    assert names(manifest.profiles[0].encoder.outputs) == ["h_0", "h_1", "c_0", "c_1"]
    assert names(manifest.profiles[0].decoder.inputs) == ["token", "h_0", "h_1", "c_0", "c_1"]
    assert names(manifest.profiles[0].decoder.outputs) == [
        *("next_token", "next_score", "top_tokens", "top_scores", "log_probs"),
        *("next_h_0", "next_h_1", "next_c_0", "next_c_1"),
    ]
    assert manifest.profiles[0].encoder.outputs[0].shape == ("B", 4)
    assert manifest.profiles[0].decoder.outputs[4].shape == ("R", 5)


def test_hidden_states_of_int8_are_bytes(manifest: Manifest) -> None:
    fp32, int8 = manifest.profiles
    kinds = [[tensor.dtype for tensor in profile.encoder.outputs] for profile in (fp32, int8)]
    assert kinds == [["float32"] * 4, ["uint8", "uint8", "float32", "float32"]]
    assert [tensor.dtype for tensor in int8.decoder.outputs[5:]] == kinds[1]
    assert (int8.encoder.file, int8.decoder.file) == ("encoder.int8.onnx", "decoder.int8.onnx")


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells_have_no_cell_state(manifest: Manifest, cell: str) -> None:
    architecture = msgspec.structs.replace(manifest.architecture, cell=cell)
    assert names(encoder_graph(architecture, "fp32").outputs) == ["h_0", "h_1"]
    assert names(decoder_graph(architecture, manifest.vocabulary, "fp32").outputs)[5:] == [
        "next_h_0",
        "next_h_1",
    ]


@pytest.mark.parametrize("cell", ["lstm-peephole", "lstm-coupled", "lstm-peephole-coupled"])
def test_every_lstm_has_one(manifest: Manifest, cell: str) -> None:
    architecture = msgspec.structs.replace(manifest.architecture, cell=cell)
    assert encoder_graph(architecture, "int8").outputs == encoder_graph(manifest.architecture, "int8").outputs


def test_fp16_keeps_units_in_half_the_bytes_and_cell_states_in_float32(manifest: Manifest) -> None:
    decoder = decoder_graph(manifest.architecture, manifest.vocabulary, "fp16")
    kinds = ["float16", "float16", "float32", "float32"]
    assert [tensor.dtype for tensor in encoder_graph(manifest.architecture, "fp16").outputs] == kinds
    assert [tensor.dtype for tensor in decoder.outputs[5:]] == kinds
    assert decoder.outputs[:5] == manifest.profile("fp32").decoder.outputs[:5]  # what may follow


def shapes(tensors: tuple[Tensor, ...]) -> dict[str, tuple[object, ...]]:
    return {tensor.name: (tensor.dtype, *tensor.shape) for tensor in tensors}


@pytest.mark.parametrize(("profile", "unit"), [("fp32", "float32"), ("int8", "uint8"), ("fp16", "float16")])
def test_what_attention_looks_at_is_memory_and_what_is_fed_back_is_state(
    manifest: Manifest, profile: str, unit: str
) -> None:
    architecture = msgspec.structs.replace(
        manifest.architecture, attention="additive", input_feeding=True, encoder_hidden_size=6
    )
    made = shapes(encoder_graph(architecture, profile).outputs)
    assert list(made) == ["h_0", "h_1", "c_0", "c_1", "fed", "keys", "values"]
    assert made["fed"] == (unit, "B", 4)
    assert made["keys"] == ("float32", "B", "S", 4)
    assert made["values"] == ("float32", "B", "S", 7)  # one column more: which places are the source's own
    decoder = decoder_graph(architecture, manifest.vocabulary, profile)
    assert [tensor.name for tensor in decoder.inputs] == ["token", *made]
    written = shapes(decoder.outputs)
    assert [name for name in made if f"next_{name}" not in written] == ["keys", "values"]
    assert list(written.items())[-1] == ("alignments", ("float32", "R", "S"))


@pytest.mark.parametrize(("profile", "unit"), [("fp32", "float32"), ("int8", "uint8"), ("fp16", "float16")])
def test_a_summary_for_every_step_is_memory(manifest: Manifest, profile: str, unit: str) -> None:
    architecture = msgspec.structs.replace(
        manifest.architecture, context="every-step", encoder_hidden_size=6, cell="gru"
    )
    assert shapes(encoder_graph(architecture, profile).outputs)["summary"] == (unit, "B", 6)
    decoder = decoder_graph(architecture, manifest.vocabulary, profile)
    assert [tensor.name for tensor in decoder.inputs] == ["token", "h_0", "h_1", "summary"]
    assert [tensor.name for tensor in decoder.outputs][5:] == ["next_h_0", "next_h_1"]


WRONG_TENSORS: dict[str, Change] = {
    "input renamed": lambda model: setattr(model.graph.input[0], "name", "tokens"),
    "output renamed": lambda model: setattr(model.graph.output[0], "name", "best"),
    "input missing": lambda model: model.graph.input.pop(),
    "output missing": lambda model: model.graph.output.pop(),
    "input added": lambda model: model.graph.input.append(
        helper.make_tensor_value_info("more", TensorProto.FLOAT, ["R"])
    ),
    "output added": lambda model: model.graph.output.append(
        helper.make_tensor_value_info("more", TensorProto.FLOAT, ["R"])
    ),
    "inputs swapped": lambda model: model.graph.input.append(model.graph.input.pop(1)),
    "input dtype": lambda model: setattr(
        model.graph.input[0].type.tensor_type, "elem_type", TensorProto.INT32
    ),
    "output dtype": lambda model: setattr(
        model.graph.output[4].type.tensor_type, "elem_type", TensorProto.FLOAT16
    ),
    "hidden size": lambda model: setattr(shape_of(model.graph.input[1]).dim[1], "dim_value", 5),
    "next hidden size": lambda model: setattr(shape_of(model.graph.output[5]).dim[1], "dim_value", 3),
    "output column for <S>": lambda model: setattr(shape_of(model.graph.output[4]).dim[1], "dim_value", 6),
    "output column too few": lambda model: setattr(shape_of(model.graph.output[4]).dim[1], "dim_value", 4),
    "candidates too few": lambda model: setattr(shape_of(model.graph.output[3]).dim[1], "dim_value", 4),
    "rows fixed": lambda model: setattr(shape_of(model.graph.input[0]).dim[0], "dim_value", 1),
    "rows by another name": lambda model: setattr(shape_of(model.graph.input[0]).dim[0], "dim_param", "N"),
    "rank": lambda model: shape_of(model.graph.input[0]).dim.add(dim_value=1),
    "no shape": lambda model: model.graph.input[0].type.tensor_type.ClearField("shape"),
}


@pytest.mark.parametrize("fault", WRONG_TENSORS)
def test_refuses_a_decoder_with_wrong_tensors(
    decoder: onnx.ModelProto, publish_changed: Publish, fault: str
) -> None:
    WRONG_TENSORS[fault](decoder)
    with pytest.raises(
        BundleError, match=r"^decoder\.fp32\.onnx: (in|out)puts are .*; exactly .* are allowed"
    ):
        publish_changed({"decoder.fp32.onnx": decoder.SerializeToString()})


def test_refuses_the_graphs_swapped(publish_changed: Publish, files: dict[str, bytes]) -> None:
    with pytest.raises(BundleError, match=r"^encoder\.fp32\.onnx: inputs are \('token'"):
        publish_changed(
            {"encoder.fp32.onnx": files["decoder.fp32.onnx"], "decoder.fp32.onnx": files["encoder.fp32.onnx"]}
        )


def add_node(operator: str, domain: str = "") -> Change:
    return lambda model: model.graph.node.append(helper.make_node(operator, [], ["y"], domain=domain))


def repeated(operator: str, *inside: onnx.NodeProto) -> onnx.NodeProto:
    """A node that runs others again and again."""
    return helper.make_node(operator, [], ["y"], body=helper.make_graph(inside, "body", [], []))


def add_loop(model: onnx.ModelProto) -> None:
    model.graph.node.append(repeated("Loop"))


def add_scans(model: onnx.ModelProto) -> None:
    model.graph.node.append(repeated("Scan", repeated("Scan")))


def add_random_scan(model: onnx.ModelProto) -> None:
    model.graph.node.append(repeated("Scan", helper.make_node("RandomNormal", [], ["y"])))


def add_function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("local", "Tanh", ["x"], ["y"], [], []))


UNSAFE: dict[str, tuple[Change, str]] = {
    "loop": (add_loop, "a sub-graph of 'Loop'; only those of Scan are allowed"),
    "scan in a scan": (add_scans, "a sub-graph of 'Scan/Scan'; only those of Scan are allowed"),
    "random numbers in a scan": (add_random_scan, "operator 'RandomNormal'"),
    "function": (add_function, "has 1 model-local functions; none are allowed"),
    "training": (lambda model: model.training_info.add(), "has 1 training graphs; none are allowed"),
    "old opset": (
        lambda model: setattr(model.opset_import[0], "version", 16),
        "opset 16 of domain ''; 17 to 21",
    ),
    "new opset": (
        lambda model: setattr(model.opset_import[0], "version", 22),
        "opset 22 of domain ''; 17 to 21",
    ),
    "no opset": (lambda model: model.opset_import.pop(), "names no opset of the domain ai.onnx"),
    "domain": (
        lambda model: model.opset_import.append(helper.make_opsetid("evil", 1)),
        "operator domain 'evil'",
    ),
    "operator of a domain": (add_node("Tanh", "evil"), "operator 'evil.Tanh'"),
    "random": (add_node("RandomNormal"), "operator 'RandomNormal'"),
    "scale over all rows": (add_node("DynamicQuantizeLinear"), "operator 'DynamicQuantizeLinear'"),
    "no operator": (add_node(""), "operator ''"),
}


@pytest.mark.parametrize("fault", UNSAFE)
def test_refuses_what_may_not_be_run(decoder: onnx.ModelProto, publish_changed: Publish, fault: str) -> None:
    change, words = UNSAFE[fault]
    change(decoder)
    with pytest.raises(BundleError, match=r"^decoder\.fp32\.onnx: ") as caught:
        publish_changed({"decoder.fp32.onnx": decoder.SerializeToString()})
    assert words in str(caught.value)


@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_accepts_the_opsets_it_names(
    decoder: onnx.ModelProto, publish_changed: Publish, opset: int, domain: str
) -> None:
    decoder.opset_import[0].CopyFrom(helper.make_opsetid(domain, opset))
    decoder.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    add_node("MatMulIntegerToFloat", "com.microsoft")(decoder)
    assert publish_changed({"decoder.fp32.onnx": decoder.SerializeToString()})


def test_the_operators_exist() -> None:
    """A name misspelt here would be one that nobody can use."""
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert {operator for operator in OPERATORS if "." not in operator} <= known


def resize(model: onnx.ModelProto, rows: int) -> None:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((rows, 3), np.float32), "embedding"))


@pytest.mark.parametrize(("file", "rows"), [("encoder.fp32.onnx", 5), ("decoder.fp32.onnx", 6)])
def test_refuses_an_embedding_off_by_one(
    encoder: onnx.ModelProto, decoder: onnx.ModelProto, publish_changed: Publish, file: str, rows: int
) -> None:
    model = encoder if file == "encoder.fp32.onnx" else decoder
    for wrong in (rows - 1, rows + 1):
        resize(model, wrong)
        with pytest.raises(
            BundleError, match=rf"^{file}: \w+ looks up {wrong} embedding rows; {rows} are allowed"
        ):
            publish_changed({file: model.SerializeToString()})


def test_sees_a_look_up_through_quantisation(manifest: Manifest, decoder: onnx.ModelProto) -> None:
    table = numpy_helper.from_array(np.zeros((7, 3), np.int8), "embedding_int8")
    decoder.graph.initializer.append(table)
    decoder.graph.node.insert(
        0, helper.make_node("DequantizeLinear", ["embedding_int8", "scale"], ["embedding_float"])
    )
    decoder.graph.node[2].input[0] = "embedding_float"
    with pytest.raises(BundleError, match="token looks up 7 embedding rows"):
        check_graph(manifest.profiles[0].decoder, decoder.SerializeToString(), "token", 6)


def test_a_look_up_out_of_sight_is_left_to_the_golden_cases(
    manifest: Manifest, decoder: onnx.ModelProto
) -> None:
    resize(decoder, 7)
    decoder.graph.node[0].op_type = "Neg"
    check_graph(manifest.profiles[0].decoder, decoder.SerializeToString(), "token", 6)
