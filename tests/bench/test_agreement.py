"""A served bundle against the network that it was exported from, and against another."""

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

from bench import agreement
from tests.conftest import save_random_run
from training.recipe import Model


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.tsv"
    path.write_text("chair\tCH EH R\nlift\nsnow\n" + "a" * 25 + "\nsnowy\tS N OW IY\n")
    return path


@pytest.mark.parametrize("more", [(), ("--beam", "3")])
def test_a_bundle_agrees_with_its_run(
    tiny_run: Path, tiny_bundle: Path, words: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    """What is longer than the model takes is left out."""
    asked = [str(tiny_run), str(tiny_bundle), "--words", str(words), "--profile", "fp32", *more]
    assert agreement.main(asked) == 0
    said = re.fullmatch(
        r"(.*) fp32: 4 words, 0 with other tokens; scores of equal ones at most (.*) apart\n",
        capsys.readouterr().out,
    )
    assert said is not None
    assert said[1] == str(tiny_bundle)
    assert 0 <= float(said[2]) < 1e-4


@pytest.mark.parametrize("more", [(), ("--beam", "3")])
def test_a_bundle_of_another_run_is_seen(
    tiny_bundle: Path, words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    """Negative control."""
    other = save_random_run(tmp_path, Model(embedding_size=8, hidden_size=12))
    asked = [str(other), str(tiny_bundle), "--words", str(words), "--profile", "fp32"]
    assert agreement.main([*asked, *more]) == 1
    said = capsys.readouterr().out
    assert f"{tiny_bundle} fp32: 4 words, 4 with other tokens" in said
    assert "  lift: served [[" in said
