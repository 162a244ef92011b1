"""Every kind and shape of network that a recipe can ask for, with random weights."""

import random
from typing import Any

import torch

from bundle.manifest import Architecture, Vocabulary
from bundle.values import ProfileName
from export.profiles import build_graphs
from training.model import Seq2Seq
from training.recipe import Model

SOURCE_SIZE, TARGET_SIZE = 11, 9
LONGEST = 15  # source tokens
SHAPES = [(1, 1, False), (3, 3, False), (1, 1, True), (2, 1, True), (1, 3, True), (3, 2, True)]
SIZES = [(3, 4), (6, 18)]  # of an embedding and a hidden state
LOOKS: dict[str, dict[str, Any]] = {  # what a step sees of the source
    "first-step": {},
    "every-step": {"context": "every-step"},
    "dot": {"attention": "dot"},
    "general": {"attention": "general"},
    "additive": {"attention": "additive"},
    "dot-fed": {"attention": "dot", "input_feeding": True},
    "general-fed": {"attention": "general", "input_feeding": True},
    "additive-fed": {"attention": "additive", "input_feeding": True},
}
VOCABULARY = Vocabulary(
    source_size=SOURCE_SIZE,
    target_size=TARGET_SIZE,
    source_pad_id=0,
    source_unknown_id=1,
    start_id=TARGET_SIZE - 1,
    end_id=0,
    unknown_id=1,
)


def network(
    shape: tuple[int, int, bool], sizes: tuple[int, int], seed: int = 0, **more: Any
) -> tuple[Seq2Seq, Architecture]:
    """A network of (encoder layers, decoder layers, bidirectional) and (embedding size, hidden size)."""
    sizes_ = Model(
        embedding_size=sizes[0],
        hidden_size=sizes[1],
        encoder_layers=shape[0],
        decoder_layers=shape[1],
        bidirectional=shape[2],
        **more,
    )
    torch.manual_seed(seed)
    model = Seq2Seq(SOURCE_SIZE, TARGET_SIZE, sizes_).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1 or not parameter.any():  # biases and peepholes start at 0: proves nothing
            torch.nn.init.uniform_(parameter, -0.25, 0.25)
        parameter.data.mul_(2)  # spread the answers
    return model, Architecture(
        cell=sizes_.cell,
        encoder_layers=shape[0],
        decoder_layers=shape[1],
        embedding_size=sizes[0],
        hidden_size=sizes[1],
        encoder_hidden_size=sizes_.memory_size,
        bidirectional=shape[2],
        attention=sizes_.attention,
        input_feeding=sizes_.input_feeding,
        context=sizes_.context,
        parameters=1,
        starts_from=sizes_.starts_from,
    )


def graphs_of(profile: ProfileName, model: Seq2Seq, architecture: Architecture) -> tuple[bytes, bytes]:
    """Encoder and decoder."""
    return build_graphs(profile, model, architecture, VOCABULARY, LONGEST)


def some_sources(count: int = 70, longest: int = LONGEST) -> list[list[int]]:
    """Sources of every length up to the longest."""
    chance = random.Random(1)
    return [
        [chance.randrange(1, SOURCE_SIZE) for _ in range(chance.randint(1, longest))] for _ in range(count)
    ]
