"""Runs of one epoch on a hundred strings, by the command line; runs of random weights; what commands say."""

from pathlib import Path

import pytest
import torch

from bundle.text import build_source, build_target
from training.__main__ import main
from training.checkpoint import Checkpoint, save_checkpoint
from training.model import Seq2Seq
from training.recipe import Card, Files, Limits, Model, Recipe, Text, Training


def train(recipe: Path, folder: Path, *more: str) -> int:
    """Trains, with further options; returns the exit status."""
    changes = ["--set", "training.epochs=1", "--set", "data.train=100"]
    return main([str(recipe), "--run", str(folder), "--device", "cpu", *changes, *more])


def random_run(
    folder: Path, seed: int, letters: str = "abc", strip_accents: bool = False, **sizes: object
) -> Path:
    """A run of random weights that turns letters into letters, with a data folder beside it."""
    recipe = Recipe(
        card=Card(title="Tiny", description=""),
        data=Files(
            folder=str(folder.parent),
            train="train.tsv",
            dev="test.tsv",
            test="test.tsv",
            name="-",
            licence="-",
        ),
        source=Text(level="char", strip_accents=strip_accents),
        target=Text(level="char"),
        model=Model(embedding_size=4, hidden_size=8, **sizes),
        training=Training(epochs=1, patience_epochs=1),
        limits=Limits(max_source_length=8, max_target_length=6),
    )
    texts = build_source(letters, "char", strip_accents=strip_accents), build_target(letters, "char")
    torch.manual_seed(seed)
    network = Seq2Seq(len(letters) + 2, len(letters) + 3, recipe.model)
    for parameter in network.parameters():
        parameter.data.mul_(2)  # spread the answers
    network.decoder.output.bias.data[1] = -100.0  # no unknown tokens
    tensors = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    folder.mkdir()
    save_checkpoint(folder / "best.safetensors", Checkpoint(recipe, *texts, tensors, {}))
    return folder


def said(capsys: pytest.CaptureFixture[str], *command: object) -> str:
    """What a command prints that ends well."""
    assert main(list(map(str, command))) == 0
    return capsys.readouterr().out
