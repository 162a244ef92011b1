"""Runs of one epoch on a hundred strings, by the command line."""

from pathlib import Path

from training.__main__ import main


def train(recipe: Path, folder: Path, *more: str) -> int:
    """Trains, with further options; returns the exit status."""
    changes = ["--set", "training.epochs=1", "--set", "data.train=100"]
    return main([str(recipe), "--run", str(folder), "--device", "cpu", *changes, *more])
