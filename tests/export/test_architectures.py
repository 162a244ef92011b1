"""Every shape of network that a recipe can ask for is exported exactly, lengths and batches of every size."""

import random

import pytest
import torch

from bundle.manifest import Architecture, Vocabulary
from export.graphs import build_decoder, build_encoder
from export.parity import Graphs, check_parity
from training.model import Seq2Seq
from training.recipe import Model

SOURCE_SIZE, TARGET_SIZE = 11, 9
SHAPES = [(1, 1, False), (3, 3, False), (1, 1, True), (2, 1, True), (1, 3, True), (3, 2, True)]


@pytest.mark.parametrize(("encoder_layers", "decoder_layers", "bidirectional"), SHAPES)
@pytest.mark.parametrize(("embedding_size", "hidden_size"), [(3, 4), (6, 18)])
def test_parity(encoder_layers, decoder_layers, bidirectional, embedding_size, hidden_size):
    sizes = {
        "embedding_size": embedding_size,
        "hidden_size": hidden_size,
        "encoder_layers": encoder_layers,
        "decoder_layers": decoder_layers,
        "bidirectional": bidirectional,
    }
    torch.manual_seed(0)
    model = Seq2Seq(SOURCE_SIZE, TARGET_SIZE, Model(**sizes)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(2)  # spread the answers
    architecture = Architecture(cell="lstm", attention="none", parameters=1, **sizes)
    vocabulary = Vocabulary(
        source_size=SOURCE_SIZE,
        target_size=TARGET_SIZE,
        source_pad_id=0,
        source_unknown_id=1,
        start_id=TARGET_SIZE - 1,
        end_id=0,
        unknown_id=1,
    )
    graphs = Graphs.load(build_encoder(model, architecture), build_decoder(model, architecture, vocabulary))
    chance = random.Random(1)
    sources = [[chance.randrange(1, SOURCE_SIZE) for _ in range(chance.randint(1, 15))] for _ in range(70)]
    assert check_parity(model, graphs, sources, max_length=12) <= 1e-5
