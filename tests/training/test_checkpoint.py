"""Checkpoints come back as they were, or not at all."""

import errno
import json
import os
from pathlib import Path

import msgspec
import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import save_file

from bundle.text import build_source, build_target
from training.atomic import write_atomically
from training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from training.recipe import Recipe


@pytest.fixture
def checkpoint(tiny: Recipe) -> Checkpoint:
    texts = build_source(["a"], "char"), build_target(["a"], "char")
    tensors = {"model.weight": torch.arange(6.0).view(2, 3).T, "optimizer.0.step": torch.tensor(3.0)}
    return Checkpoint(tiny, *texts, tensors, {"progress": {"step": 3, "seconds": 0.1}})


def test_what_is_saved_comes_back(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "c.safetensors", checkpoint)
    found = load_checkpoint(tmp_path / "c.safetensors")
    assert (found.recipe, found.state) == (checkpoint.recipe, checkpoint.state)
    assert (found.source_text, found.target_text) == (checkpoint.source_text, checkpoint.target_text)
    assert found.tensors.keys() == checkpoint.tensors.keys()
    assert all(torch.equal(found.tensors[name], checkpoint.tensors[name]) for name in found.tensors)
    assert list(found.group("optimizer")) == ["0.step"]


def save_as_once(path: Path, checkpoint: Checkpoint, recipe: dict[str, object]) -> None:
    """In the first format, which had a key for each thing."""
    metadata = {
        "format": "chairlift-checkpoint-1",
        "recipe": json.dumps(recipe),
        "source_text": checkpoint.source_text.decode(),
        "target_text": checkpoint.target_text.decode(),
        "state": json.dumps(checkpoint.state),
    }
    save_file({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}, path, metadata)


def test_the_first_format_is_read(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_as_once(tmp_path / "c.safetensors", checkpoint, msgspec.to_builtins(checkpoint.recipe))
    found = load_checkpoint(tmp_path / "c.safetensors")
    assert (found.recipe, found.state) == (checkpoint.recipe, checkpoint.state)
    assert (found.source_text, found.target_text) == (checkpoint.source_text, checkpoint.target_text)


def test_equal_checkpoints_are_equal_bytes(tmp_path: Path, checkpoint: Checkpoint) -> None:
    contents = set()
    for number in range(8):
        save_checkpoint(tmp_path / f"{number}", checkpoint)
        contents.add((tmp_path / f"{number}").read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize(("layers", "starts_from"), [(3, "bottom"), (2, "top")])
def test_an_old_recipe_starts_the_decoder_from_the_bottom(
    tmp_path: Path, checkpoint: Checkpoint, layers: int, starts_from: str
) -> None:
    """Where that makes a difference: checkpoints once did not say."""
    sizes = replace(checkpoint.recipe.model, encoder_layers=layers, decoder_layers=2)
    said = msgspec.to_builtins(replace(checkpoint.recipe, model=sizes))
    del said["model"]["starts_from"]
    save_as_once(tmp_path / "c.safetensors", checkpoint, said)
    assert load_checkpoint(tmp_path / "c.safetensors").recipe.model.starts_from == starts_from


@pytest.mark.parametrize("share", [0.0, 0.001, 0.2, 0.9, 0.999])
def test_a_cut_file_is_refused(tmp_path: Path, checkpoint: Checkpoint, share: float) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, checkpoint)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"c\.safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (None, "format None; expected 'chairlift-checkpoint-2'"),
        ({"chairlift-checkpoint-2": "{"}, "c.safetensors: "),
        ({"chairlift-checkpoint-2": "{}"}, "recipe"),
        ({"format": "chairlift-checkpoint-0"}, "format 'chairlift-checkpoint-0'"),
        ({"format": "chairlift-checkpoint-1"}, "recipe"),
        (
            {"format": "chairlift-checkpoint-1", "recipe": "{}", "state": "{}"},
            "missing required field `card`",
        ),
    ],
)
def test_another_format_is_refused(tmp_path: Path, metadata: dict[str, str] | None, reason: str) -> None:
    save_file({"t": torch.zeros(1)}, tmp_path / "c.safetensors", metadata)
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(tmp_path / "c.safetensors")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        load_checkpoint(tmp_path / "none.safetensors")


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os if call == "fsync" else Path, call, full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 (names alone)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 (names alone)


def test_a_file_that_cannot_be_written_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x", tmp_path / "nowhere" / "x"):
        with pytest.raises(OSError) as refusal:
            write_atomically(path, b"new")
        assert refusal.value.filename == str(path)
