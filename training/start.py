"""What a run starts from: vocabularies and weights of its own, or those of another run's best model.

Knows nothing of optimisers or of a run's progress.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs
from torch import Tensor

from bundle.text import SourceText, TargetText
from training.checkpoint import CheckpointError, load_checkpoint
from training.data import Split
from training.recipe import Model, Recipe, RecipeError
from training.vocabulary import build_texts


@dataclass(frozen=True)
class Start:
    """Tokenizers files, and weights; no weights are random ones. `about` is for the audit."""

    source_text: bytes
    target_text: bytes
    weights: dict[str, Tensor] = field(default_factory=dict)
    about: dict[str, object] = field(default_factory=dict)

    def texts(self) -> tuple[SourceText, TargetText]:
        """How the model will read and write."""
        return SourceText(self.source_text), TargetText(self.target_text)


def best_digest(run: Path) -> str:
    """SHA-256 of a run's best model, by which a recipe names it. Raises CheckpointError without one."""
    try:
        return hashlib.sha256((run / "best.safetensors").read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{run / 'best.safetensors'}: {error.strerror}") from error


def make_start(recipe: Recipe, train: Split, run: Path | None) -> Start:
    """A fresh start, or one from the best model of `run`.

    Raises RecipeError when that has another architecture, reads its texts otherwise, or lacks a token of the
    training data.
    """
    fresh = Start(*build_texts(recipe, train))
    if run is None:
        return fresh
    found = load_checkpoint(run / "best.safetensors")
    for name in ("source", "target"):
        if getattr(found.recipe, name) != getattr(recipe, name):
            raise RecipeError(f"--from {run}: its [{name}] is another")
    if _shape(found.recipe.model) != _shape(recipe.model):
        raise RecipeError(f"--from {run}: its [model] is another; only dropout may differ")
    for side, known, needed in zip(("source", "target"), found.texts(), fresh.texts(), strict=True):
        if missing := sorted(set(needed.tokens) - set(known.tokens)):
            raise RecipeError(f"--from {run}: its {side} vocabulary lacks {missing[:5]}")
    about = {
        "title": found.recipe.card.title,
        "epoch": found.state.get("epoch"),
        "commit": found.state.get("commit"),
        "sha256": recipe.training.started_from,
    }
    return Start(found.source_text, found.target_text, found.group("model"), about)


def _shape(model: Model) -> Model:
    return structs.replace(model, dropout=0.0, variational_dropout=False)
