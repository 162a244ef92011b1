"""A tiny model, exported by the real code, for every test that needs a bundle."""

from pathlib import Path

import pytest
import torch

from bundle.text import build_source, build_target
from export.__main__ import main as export
from training.atomic import write_atomically
from training.checkpoint import Checkpoint, save_checkpoint
from training.model import Seq2Seq
from training.recipe import Card, Files, Limits, Model, Recipe, Text, Training

LETTERS = "abcdefghijklmnopqrstuvwxyz'"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-network", action="store_true", help="serve every kind of network, not a few")


@pytest.fixture
def front() -> str:
    """What takes the calls of a server; tests that want both give it parameters (tests/fronts.py)."""
    return "auto"


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of random weights: two layers, both directions, 16 hidden units. Its answers are nonsense."""
    sizes = Model(embedding_size=8, hidden_size=16, encoder_layers=2, decoder_layers=2, bidirectional=True)
    return save_random_run(tmp_path_factory.mktemp("run"), sizes)


def save_random_run(run: Path, sizes: Model, spread: float = 2) -> Path:
    """Writes a run whose weights are random, and `spread` times larger than at the start of a training."""
    recipe = Recipe(
        card=Card(title="Tiny", description="Random weights, for tests."),
        data=Files(
            folder="/secret/folder",
            train="/secret/folder/train.tsv",
            dev="../secret/dev.tsv",
            name="None",
            licence="CC0-1.0",
        ),
        source=Text(level="char", lowercase=True),
        target=Text(level="word"),
        model=sizes,
        training=Training(epochs=1, patience_epochs=1),
        limits=Limits(max_source_length=24, max_target_length=12),
    )
    targets = [f"T{number}" for number in range(20)]
    torch.manual_seed(3)
    network = Seq2Seq(len(LETTERS) + 2, len(targets) + 3, recipe.model)
    for parameter in network.parameters():
        parameter.data.mul_(spread)  # spread the answers
        zeros = parameter.data == 0  # peepholes, and most biases
        parameter.data[zeros] = torch.randn(int(zeros.sum())) / 2
    tensors = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    texts = build_source(LETTERS, "char", True), build_target(targets, "word")
    save_checkpoint(run / "best.safetensors", Checkpoint(recipe, *texts, tensors, {}))
    write_atomically(run / "audit.json", b"{}")
    return run


@pytest.fixture(scope="session")
def tiny_models(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository that holds tiny/1."""
    repository = tmp_path_factory.mktemp("models")
    assert export([str(tiny_run), "--name", "tiny", "--version", "1", "--to", str(repository)]) == 0
    return repository


@pytest.fixture(scope="session")
def every_profile(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository that holds tiny/1 in fp16 too."""
    repository = tmp_path_factory.mktemp("models")
    chosen = ["--name", "tiny", "--version", "1", "--profiles", "int8,fp32,fp16"]
    assert export([str(tiny_run), *chosen, "--to", str(repository)]) == 0
    return repository


@pytest.fixture(scope="session")
def tiny_bundle(tiny_models: Path) -> Path:
    """The folder of tiny/1."""
    return tiny_models / "tiny" / "1"
