"""A checkpoint: one safetensors file that holds everything a run needs to go on, or a model to be exported.

Tensors are the file's tensors; everything else is JSON in its metadata, under one key, so that equal
checkpoints are equal bytes: several would come in any order. No pickle. A file is written beside its name,
forced to disk and renamed: whatever kills the process leaves the old one or the new one whole.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import safetensors
from safetensors.torch import save
from torch import Tensor

from bundle.text import SourceText, TargetText
from training.atomic import write_atomically
from training.model import Seq2Seq
from training.recipe import Recipe

FORMAT = "chairlift-checkpoint-2"
FIRST_FORMAT = "chairlift-checkpoint-1"  # each thing under a key of its own; read, no longer written


class CheckpointError(ValueError):
    """A checkpoint cannot be used: it is missing, damaged, or of another format."""


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` by dotted name (`model.`, `average.`, `optimizer.`, `generator.`); `state` is plain data."""

    recipe: Recipe
    source_text: bytes  # tokenizers files
    target_text: bytes
    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors under one name, without that name."""
        return {
            key.removeprefix(f"{name}."): t for key, t in self.tensors.items() if key.startswith(f"{name}.")
        }

    def texts(self) -> tuple[SourceText, TargetText]:
        """How its model reads and writes."""
        return SourceText(self.source_text), TargetText(self.target_text)

    def model(self) -> Seq2Seq:
        """The network with the weights under `model.`, ready to predict."""
        source, target = self.texts()
        model = Seq2Seq(len(source.tokens), len(target.tokens), self.recipe.model)
        model.load_state_dict(self.group("model"))
        return model.eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes atomically: a reader sees the file before or the file after, never a part."""
    contents = {
        "recipe": checkpoint.recipe,
        "source_text": checkpoint.source_text.decode(),
        "target_text": checkpoint.target_text.decode(),
        "state": checkpoint.state,
    }
    metadata = {FORMAT: msgspec.json.encode(contents).decode()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    write_atomically(path, save(tensors, metadata))


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint. Raises CheckpointError when it is missing, damaged or of another format."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: No such file") from error
    except (OSError, safetensors.SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"damaged: {error}"
        raise CheckpointError(f"{path}: {reason}") from error
    try:
        contents = _contents(metadata)
        return Checkpoint(
            recipe=_recipe(contents["recipe"]),
            source_text=contents["source_text"].encode(),
            target_text=contents["target_text"].encode(),
            tensors=tensors,
            state=contents["state"],
        )
    except (CheckpointError, KeyError, msgspec.DecodeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _contents(metadata: dict[str, str]) -> dict[str, Any]:
    """Everything but the tensors."""
    if FORMAT in metadata:
        return msgspec.json.decode(metadata[FORMAT], type=dict[str, Any])
    if metadata.get("format") != FIRST_FORMAT:
        raise CheckpointError(f"format {metadata.get('format')!r}; expected {FORMAT!r}")
    return metadata | {key: msgspec.json.decode(metadata[key]) for key in ("recipe", "state")}


def _recipe(tables: dict[str, Any]) -> Recipe:
    """The recipe of a checkpoint. Once a decoder with fewer layers than its encoder began from the lowest."""
    sizes = tables.get("model", {})
    if sizes.get("encoder_layers", 1) > sizes.get("decoder_layers", 1):
        sizes.setdefault("starts_from", "bottom")
    return msgspec.convert(tables, Recipe)
