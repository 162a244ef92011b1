"""Labels: what teachers cannot read or spell, or did not end, teaches nothing."""

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


def labelled(
    run: Path, words: bytes, answers: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> tuple[str, list[list[int]]]:
    """The file that comes out, and the sources that were asked, whose answers these are."""
    asked: list[list[int]] = []

    def answer(model: Seq2Seq, sources: list[list[int]], longest: int) -> list[tuple[list[int], list[float]]]:
        asked.extend(sources)
        return [(ids, [-0.1] * len(ids)) for ids in answers]

    monkeypatch.setattr("training.ensemble.answer", answer)
    (run / "words.txt").write_bytes(words)
    command = ["label", run, "--words", run / "words.txt", "--to", run / "labels.tsv"]
    assert main(list(map(str, command))) == 0
    return (run / "labels.tsv").read_text(), asked


def test_answers_cut_off_at_the_limit_are_left_out(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three answers one ends, one is cut off, and one is empty."""
    ended, cut_off, empty = [2, 3, 0], [2, 3, 2, 3, 2, 3, 2, 3], [0]
    assert labelled(run, b"a\nb\nab\n", [ended, cut_off, empty], monkeypatch)[0] == "a\tab\n"
    assert "1 of 3 labelled, 0 have unknown tokens\t" in capsys.readouterr().out


def test_what_teachers_cannot_read_or_spell_is_left_out(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They know a and b alone; of the two words that they read, one answer has an unknown token."""
    labels, asked = labelled(run, "a\naz\nß\nb\n".encode(), [[2, 0], [3, 1, 0]], monkeypatch)
    assert (labels, asked) == ("a\ta\n", [[2], [3]])
    assert "1 of 4 labelled, 2 have unknown tokens\t" in capsys.readouterr().out


def test_a_word_list_that_is_not_utf_8_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = run / "words.txt"
    words.write_bytes(b"a\n\xe9\n")
    assert main(["label", str(run), "--words", str(words), "--to", str(run / "labels.tsv")]) == 2
    assert f"training: {words}: not UTF-8, from byte 2 on" in capsys.readouterr().err
    assert not (run / "labels.tsv").exists()
