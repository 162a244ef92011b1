"""Every network that a recipe can ask for is exported exactly, in batches and paddings of every size."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import export.layers
import export.parity
from bundle.graphs import check_graph, decoder_graph, encoder_graph
from bundle.manifest import Architecture, Limits
from bundle.values import ProfileName
from export.parity import Answer, Graphs, ParityError, check_invariance, check_parity
from export.profiles import export_profile
from tests.export.shapes import LOOKS, SHAPES, SIZES, VOCABULARY, graphs_of, network, some_sources
from training.cells import CELLS
from training.model import Seq2Seq
from training.recipe import Model

LIMITS = Limits(max_source_length=15, max_target_length=12)
PROFILES: tuple[ProfileName, ...] = ("fp32", "int8", "fp16")


def prove(model: Seq2Seq, architecture: Architecture, profile: ProfileName, sources: int) -> list[Answer]:
    """Exports and proves a network, and compares its tensors with those that a bundle promises."""
    exported = export_profile(profile, model, architecture, VOCABULARY, LIMITS, some_sources(sources))
    encoder, decoder = (
        encoder_graph(architecture, profile),
        decoder_graph(architecture, VOCABULARY, profile),
    )
    check_graph(encoder, exported.encoder, "source", VOCABULARY.source_size)
    check_graph(decoder, exported.decoder, "token", VOCABULARY.target_size)
    assert exported.difference <= 1e-5
    return exported.answers


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("profile", PROFILES)
def test_every_shape(profile, shape, sizes):
    answers = prove(*network(shape, sizes), profile, 70)
    assert len({tuple(scores) for _, scores in answers}) > 60, "answers are too much alike to prove anything"


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_and_look(cell, look):
    """Shapes take turns, so that each cell and each look is seen with one direction and with both."""
    turn = list(CELLS).index(cell) + list(LOOKS).index(look)
    shape = [(2, 2, False), (1, 2, True), (1, 1, False), (2, 1, True)][turn % 4]
    more = {"encoder_hidden_size": 16} if shape[2] and "dot" not in look else {}
    model, architecture = network(shape, (5, 12), cell=cell, **more, **LOOKS[look])
    for profile in PROFILES:
        answers = prove(model, architecture, profile, 12)
        assert len({tuple(scores) for _, scores in answers}) > 8, "answers are too much alike"


@st.composite
def sizes_of_networks(draw: st.DrawFn) -> Model:
    hidden, memory = (2 * draw(st.integers(1, 12)) for _ in range(2))
    try:
        return Model(
            cell=draw(st.sampled_from(list(CELLS))),
            embedding_size=draw(st.integers(1, 9)),
            hidden_size=hidden,
            encoder_hidden_size=draw(st.sampled_from([None, memory])),
            encoder_layers=draw(st.integers(1, 3)),
            decoder_layers=draw(st.integers(1, 3)),
            bidirectional=draw(st.booleans()),
            **draw(st.sampled_from(list(LOOKS.values()))),
        )
    except ValueError:
        assume(False)  # no recipe may ask for it
        raise


@settings(max_examples=12, deadline=None)
@given(sizes_of_networks(), st.integers(0, 2**16))
def test_networks_at_random(sizes, seed):
    shape = sizes.encoder_layers, sizes.decoder_layers, sizes.bidirectional
    names = ("cell", "encoder_hidden_size", "attention", "input_feeding", "context")
    more = {name: getattr(sizes, name) for name in names}
    model, architecture = network(shape, (sizes.embedding_size, sizes.hidden_size), seed, **more)
    for profile in PROFILES:
        prove(model, architecture, profile, 10)


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_a_profile_says_what_it_computes_otherwise(cell):
    model, architecture = network((1, 1, False), (3, 4), cell=cell, attention="general")
    notes = {}
    for name in PROFILES:
        exported = export_profile(name, model, architecture, VOCABULARY, LIMITS, some_sources(8))
        notes[name] = exported.profile(architecture, VOCABULARY, 0.1).notes
    assert notes["fp32"] == ()
    assert [note.partition(":")[0] for note in notes["int8"]] == [
        "encoder in float32",
        "attention in float32",
    ]
    assert f"no {cell} operator" in notes["int8"][0]
    assert [note.partition(":")[0] for note in notes["fp16"]] == [
        "encoder's layers in float32, their weights stored in float16",
        "attention in float32",
    ]


def node_of(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if output in node.output)


def largest_of_all_rows(model: onnx.ModelProto) -> None:
    """The largest score is that of the batch, not the row's own."""
    del node_of(model, "largest").input[1:]


def padding_is_seen(model: onnx.ModelProto) -> None:
    """The first place after a source counts as its own."""
    node_of(model, "own").op_type = "LessOrEqual"


def broken(graph: bytes, change: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load_from_string(graph)
    change(model)
    return model.SerializeToString()


@pytest.mark.parametrize("profile", PROFILES)
def test_attention_that_looks_at_neighbours_is_found(profile):
    """Negative controls: a largest score of all rows, a place of padding."""
    model, architecture = network((1, 1, True), (6, 18), attention="general")
    encoder, decoder = graphs_of(profile, model, architecture)
    sources = some_sources(20)
    check_invariance(Graphs.load(encoder, decoder), sources, model.start_id, 12)
    for graphs in (
        (encoder, broken(decoder, largest_of_all_rows)),
        (broken(encoder, padding_is_seen), decoder),
    ):
        with pytest.raises(ParityError, match="neighbours change its answer"):
            check_invariance(Graphs.load(*graphs), sources, model.start_id, 12)


def test_padding_that_is_seen_is_not_pytorchs():
    """Negative control of parity."""
    model, architecture = network((1, 1, True), (6, 18), attention="general")
    encoder, decoder = graphs_of("fp32", model, architecture)
    with pytest.raises(ParityError, match="values is not 0 at padding"):
        check_parity(model, Graphs.load(broken(encoder, padding_is_seen), decoder), some_sources(20), 12)


def test_widths_that_are_not_whole_blocks_are_found(monkeypatch):
    """Negative control: at other widths of the source axis, sums are grouped otherwise."""
    model, architecture = network((1, 1, True), (6, 18), attention="general")
    graphs = Graphs.load(*graphs_of("fp32", model, architecture))
    sources = [source * 2 for source in some_sources(70) if len(source) > 3]
    check_invariance(graphs, sources, model.start_id, 12)
    monkeypatch.setattr(export.parity, "SOURCE_BLOCK", 5)
    with pytest.raises(ParityError, match="neighbours change its answer"):
        check_invariance(graphs, sources, model.start_id, 12)


def test_memory_that_is_not_zero_at_padding_is_found(monkeypatch):
    """Negative control: whoever pads memory further must find zeros where the encoder ends."""
    model, architecture = network((1, 1, True), (6, 18), attention="general")
    graphs = Graphs.load(*graphs_of("fp32", model, architecture))
    encode = Graphs.encode

    def with_dirt(self, sources, blocks=0):
        found = encode(self, sources, blocks)
        return found | {"keys": found["keys"] + np.float32(1e-6)}

    monkeypatch.setattr(Graphs, "encode", with_dirt)
    with pytest.raises(ParityError, match="keys is not 0 at padding"):
        check_parity(model, graphs, some_sources(4), 12)


def test_a_lone_row_of_an_rnn_needs_company(monkeypatch):
    """Negative control: without the row that is added, a source alone is computed otherwise."""
    model, architecture = network((2, 2, False), (6, 16), cell="rnn")
    monkeypatch.setattr(export.layers, "_accompany", lambda graph: ("source", "lengths"))
    monkeypatch.setattr(export.layers, "_without_last", lambda graph, x, axis: x)
    graphs = Graphs.load(*graphs_of("fp32", model, architecture))
    with pytest.raises(ParityError, match="neighbours change its answer"):
        check_invariance(graphs, some_sources(), model.start_id, 12)
