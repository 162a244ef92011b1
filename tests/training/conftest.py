"""A recipe small enough to train in a second, with every source of randomness and of state switched on."""

from pathlib import Path

import pytest
import torch

from training.recipe import Recipe, load_recipe
from training.report import RunFolder

TINY = """
[card]
title = "Tiny"
description = "Reverses strings of 1 to 4 letters."
[data]
kind = "reverse"
alphabet = "abcdefghij"
max_length = 4
train = 300
dev = 40
test = 20
[source]
level = "char"
[target]
level = "char"
[model]
embedding_size = 8
hidden_size = 16
encoder_layers = 2
decoder_layers = 2
bidirectional = true
attention = "general"
dropout = 0.2
variational_dropout = true
[training]
seed = 3
epochs = 3
patience_epochs = 3
batch_size = 32
learning_rate = 1e-2
warmup_steps = 4
schedule = "plateau"
plateau_epochs = 1
optimizer = "adamw"
weight_decay = 0.1
word_dropout = 0.1
scheduled_sampling = 0.2
references = "sampled"
mean_of_epochs = 2
label_smoothing = 0.1
clip_value = 0.02
clip_norm = 0.1
average_decay = 0.9
precision = "bf16-mixed"
checkpoint_every_steps = 3
[limits]
max_source_length = 8
max_target_length = 8
"""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Threads only get in each other's way at these sizes."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of the tiny recipe."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_recipe: Path) -> Recipe:
    """The tiny recipe itself."""
    return load_recipe(tiny_recipe)


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw nothing: matplotlib takes longer than they do."""
    monkeypatch.setattr(RunFolder, "_draw_curves", lambda folder, history, layers: None)
