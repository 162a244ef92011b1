"""Labels: an answer that ran into the length limit teaches nothing."""

from pathlib import Path

import pytest
import torch

from bundle.text import build_source, build_target
from training.__main__ import main
from training.checkpoint import Checkpoint, save_checkpoint
from training.model import Seq2Seq
from training.recipe import Recipe


@pytest.fixture
def run(tiny: Recipe, tmp_path: Path) -> Path:
    """A run of random weights that turns a and b into a and b."""
    torch.manual_seed(1)
    network = Seq2Seq(4, 5, tiny.model)
    tensors = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    texts = build_source("ab", "char"), build_target("ab", "char")
    save_checkpoint(tmp_path / "best.safetensors", Checkpoint(tiny, *texts, tensors, {}))
    return tmp_path


def test_answers_cut_off_at_the_limit_are_left_out(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three answers one ends, one is cut off, and one is empty."""
    ended, cut_off, empty = [2, 3, 0], [2, 3, 2, 3, 2, 3, 2, 3], [0]
    answers = [(ids, [-0.1] * len(ids)) for ids in (ended, cut_off, empty)]
    monkeypatch.setattr("training.ensemble.answer", lambda model, sources, longest: answers)
    (tmp_path / "words.txt").write_text("a\nb\nab\n")
    command = ["label", run, "--words", tmp_path / "words.txt", "--to", tmp_path / "labels.tsv"]
    assert main(list(map(str, command))) == 0
    assert (tmp_path / "labels.tsv").read_text() == "a\tab\n"
    assert "1 of 3 labelled" in capsys.readouterr().out
