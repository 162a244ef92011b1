"""What a run starts from: vocabularies and weights of its own, or those of other runs' best models.

Knows nothing of optimisers or of a run's progress.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs
from torch import Tensor

from bundle.text import SourceText, TargetText
from training.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from training.data import Split
from training.model import Seq2Seq
from training.recipe import Model, Recipe, RecipeError
from training.vocabulary import build_texts


@dataclass(frozen=True)
class Start:
    """Tokenizers files, weights and teachers; no weights are random ones. `about` is for the audit."""

    source_text: bytes
    target_text: bytes
    weights: dict[str, Tensor] = field(default_factory=dict)
    teachers: list[Seq2Seq] = field(default_factory=list)
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


def make_start(
    recipe: Recipe, train: Split, start_from: Path | None = None, teachers: Sequence[Path] = ()
) -> Start:
    """A fresh start, or one from the best model of a run; and the best models of runs that teach.

    Raises RecipeError when one of them reads its texts otherwise or lacks a token of the training data, when
    they do not share their vocabularies, or when the one that is started from has another architecture.
    """
    fresh = Start(*build_texts(recipe, train))
    named = [(f"--from {start_from}", start_from)] if start_from else []
    named += [(f"--teacher {run}", run) for run in teachers]
    if not named:
        return fresh
    found = [_fitting(name, load_checkpoint(run / "best.safetensors"), recipe, fresh) for name, run in named]
    first = found[0]
    for (name, _), other in zip(named, found, strict=True):
        if (other.source_text, other.target_text) != (first.source_text, first.target_text):
            raise RecipeError(f"{name}: has another vocabulary than {named[0][0]}")
    about: dict[str, object] = {}
    if start_from:
        if _shape(first.recipe.model) != _shape(recipe.model):
            raise RecipeError(f"{named[0][0]}: its [model] is another; only dropout may differ")
        about["started_from"] = _about(first, recipe.training.started_from)
    taught = found[-len(teachers) :] if teachers else []
    if taught:
        about["taught_by"] = list(map(_about, taught, recipe.training.taught_by))
    weights = first.group("model") if start_from else {}
    models = [checkpoint.model() for checkpoint in taught]
    return Start(first.source_text, first.target_text, weights, models, about)


def _fitting(name: str, found: Checkpoint, recipe: Recipe, fresh: Start) -> Checkpoint:
    """A model that reads and writes what the recipe does, from the same end. Raises RecipeError."""
    if found.recipe.model.backwards != recipe.model.backwards:
        raise RecipeError(f"{name}: its model.backwards is another")
    for side, known, needed in zip(("source", "target"), found.texts(), fresh.texts(), strict=True):
        if getattr(found.recipe, side) != getattr(recipe, side):
            raise RecipeError(f"{name}: its [{side}] is another")
        if missing := sorted(set(needed.tokens) - set(known.tokens)):
            raise RecipeError(f"{name}: its {side} vocabulary lacks {missing[:5]}")
    return found


def _about(found: Checkpoint, sha256: str) -> dict[str, object]:
    title, state = found.recipe.card.title, found.state
    return {"title": title, "epoch": state.get("epoch"), "commit": state.get("commit"), "sha256": sha256}


def _shape(model: Model) -> Model:
    return structs.replace(model, dropout=0.0, variational_dropout=False)
