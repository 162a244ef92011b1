"""Every shape of network that a recipe can ask for is exported exactly, lengths and batches of every size."""

import pytest

from bundle.graphs import check_graph, decoder_graph, encoder_graph
from export.graphs import build_decoder, build_encoder
from export.int8 import build_int8_decoder, build_int8_encoder
from export.parity import Graphs, check_invariance, check_parity
from tests.export.shapes import LONGEST, SHAPES, SIZES, VOCABULARY, network, some_sources


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_parity(shape, sizes):
    model, architecture = network(shape, sizes)
    graphs = Graphs.load(build_encoder(model, architecture), build_decoder(model, architecture, VOCABULARY))
    assert check_parity(model, graphs, some_sources(), max_length=12) <= 1e-5


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_int8_is_what_a_bundle_promises_and_neighbours_change_no_bit(shape, sizes):
    model, architecture = network(shape, sizes)
    encoder = build_int8_encoder(model, architecture, LONGEST)
    decoder = build_int8_decoder(model, architecture, VOCABULARY)
    check_graph(encoder_graph(architecture, "int8"), encoder, "source", VOCABULARY.source_size)
    check_graph(decoder_graph(architecture, VOCABULARY, "int8"), decoder, "token", VOCABULARY.target_size)
    answers = check_invariance(Graphs.load(encoder, decoder), some_sources(), model.start_id, max_length=12)
    assert len({tuple(tokens) for tokens, _ in answers}) > 5, "answers are too much alike to prove anything"
