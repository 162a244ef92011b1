"""A lexicon that is given travels in the bundle; one that is wrong stops the export before any work."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from bundle.manifest import LEXICON
from bundle.reader import read_bundle
from export.__main__ import main


def export(run: Path, folder: Path, lines: str) -> int:
    (folder / "mine.tsv").write_text(lines, encoding="utf-8")
    to = ["--name", "tiny", "--version", "1", "--to", str(folder / "models"), "--profiles", "fp32"]
    return main([str(run), *to, "--lexicon", str(folder / "mine.tsv")])


def test_a_bundle_gets_the_lexicon_as_it_is(tiny_run: Path, tmp_path: Path) -> None:
    assert export(tiny_run, tmp_path, "abc\tT1 T2\tT3\nc3p0\tT4\n") == 0
    bundle = read_bundle(tmp_path / "models" / "tiny" / "1")
    assert bundle.manifest.lexicon_entries == 2 and bundle.lexicon is not None
    assert (tmp_path / "models" / "tiny" / "1" / LEXICON).read_bytes() == (tmp_path / "mine.tsv").read_bytes()
    found = bundle.lexicon.find("ABC", bundle.source.encode("ABC"))
    assert found and [bundle.target.decode(ids) for ids in found] == ["T1 T2", "T3"]


def test_a_wrong_line_is_named_and_nothing_is_published(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr("export.__main__.export_profile")  # it is not come so far
    assert export(tiny_run, tmp_path, "abc\tT1\nabd\tT99\n") == 2
    assert "mine.tsv: line 2: target 1: token 1 is not in the target vocabulary" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()
