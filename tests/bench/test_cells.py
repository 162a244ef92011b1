"""The page of cells: every figure in its row, what failed by name, and no folder of this machine."""

from pathlib import Path

import pytest

from bench import cells, cells_page


def rows() -> list[cells.Row]:
    whole = cells.Row("lstm", ())
    whole.figures = {"parameters": 1234.0, "dev_wer": 50.5, "training_tokens_s": 81000.0}
    whole.steps = {("int8", 1): 24.4, ("int8", 64): 111.0}
    whole.notes = ["int8: a note"]
    broken = cells.Row("gru", ())
    broken.notes = ["int8: a note", "training: /secret/folder/train.tsv: No such file"]
    return [whole, broken]


def test_the_page_tells_what_was_measured_and_what_failed(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "cells.md"
    cells_page.write(page, rows(), rows()[:1], ["--data", "/secret/data", "--rounds", "2"])
    text = page.read_text()
    assert "| `lstm` | 1,234 | 50.50 % | 81,000 | 24 | 111 |" in text
    assert "| `gru` | failed | failed | failed | failed | failed |" in text
    assert "- lstm, gru: int8: a note\n- gru: training: train.tsv: No such file" in text
    assert "`python -m bench.cells --data data --rounds 2`" in text
    assert "secret" not in text
    assert (tmp_path / "docs" / "cells.png").read_bytes().startswith(b"\x89PNG")


def test_a_row_that_fails_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def program(words: list[str]) -> None:
        asked.append(words[0])
        raise RuntimeError(f"{words[0]}: it broke")

    monkeypatch.setattr(cells, "_program", program)
    monkeypatch.setattr("sys.argv", ["cells", "--to", str(tmp_path), "--page", str(tmp_path / "cells.md")])
    assert cells.main() == 1
    assert asked == ["training"] * (len(cells.CELLS) + len(cells.VIEWS) - 1)
    assert "training: it broke" in (tmp_path / "cells.md").read_text()
