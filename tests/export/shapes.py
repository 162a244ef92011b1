"""Every shape of network that a recipe can ask for, with random weights."""

import random

import torch

from bundle.manifest import Architecture, Vocabulary
from training.model import Seq2Seq
from training.recipe import Model

SOURCE_SIZE, TARGET_SIZE = 11, 9
LONGEST = 15  # source tokens
SHAPES = [(1, 1, False), (3, 3, False), (1, 1, True), (2, 1, True), (1, 3, True), (3, 2, True)]
SIZES = [(3, 4), (6, 18)]  # of an embedding and a hidden state
VOCABULARY = Vocabulary(
    source_size=SOURCE_SIZE,
    target_size=TARGET_SIZE,
    source_pad_id=0,
    source_unknown_id=1,
    start_id=TARGET_SIZE - 1,
    end_id=0,
    unknown_id=1,
)


def network(shape: tuple[int, int, bool], sizes: tuple[int, int]) -> tuple[Seq2Seq, Architecture]:
    """A network of (encoder layers, decoder layers, bidirectional) and (embedding size, hidden size)."""
    fields = {
        "embedding_size": sizes[0],
        "hidden_size": sizes[1],
        "encoder_layers": shape[0],
        "decoder_layers": shape[1],
        "bidirectional": shape[2],
    }
    torch.manual_seed(0)
    model = Seq2Seq(SOURCE_SIZE, TARGET_SIZE, Model(**fields)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(2)  # spread the answers
    return model, Architecture(cell="lstm", attention="none", parameters=1, **fields)


def some_sources(count: int = 70) -> list[list[int]]:
    """Sources of every length up to LONGEST."""
    chance = random.Random(1)
    return [
        [chance.randrange(1, SOURCE_SIZE) for _ in range(chance.randint(1, LONGEST))] for _ in range(count)
    ]
