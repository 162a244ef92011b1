"""Training speed beside OpenNMT-py's, with a program in its part that says how fast it was."""

import json
import stat
from pathlib import Path

import pytest

pytest.importorskip("torch")

from bench import opennmt

SAID = """\
[INFO] Step 100/  200; acc: 20.0; 9999/8888 tok/s;      1 sec;
[INFO] Step 200/  200; acc: 30.0; 1000/ 500 tok/s;      2 sec;
"""


def compare(folder: Path, script: str) -> int:
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    pairs = folder / "pairs.tsv"
    pairs.write_text("".join(f"{word}\tS N OW\n" for word in ("chair", "lift", "snow") * 8), encoding="utf-8")
    return opennmt.main(["--python", str(python), "--pairs", str(pairs), "--threads", "1"])


def test_speeds_are_those_that_both_say_at_the_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(opennmt, "OURS", opennmt.OURS | {"model.embedding_size": 4, "model.hidden_size": 4})
    monkeypatch.setattr(opennmt, "PRECISIONS", ("32-true",))
    assert compare(tmp_path, f"cat <<'END'\n{SAID}END\n") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["opennmt.fp32"] == 1500
    assert found["chairlift.32-true"] > 0
    assert found["ratio.32-true"] == round(found["chairlift.32-true"] / 1500, 2)


def test_a_training_that_fails_says_why(tmp_path, capsys):
    assert compare(tmp_path, "echo no module named onmt\nexit 3\n") == 1
    assert "no module named onmt" in capsys.readouterr().err
