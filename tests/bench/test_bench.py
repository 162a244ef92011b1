"""The whole run, short, against a tiny bundle; and its small parts."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from bench.questions import invent, invent_long, read_words
from bench.report import command_line
from bench.servers import total

ROOT = Path(__file__).parent.parent.parent
METRICS = """\
# HELP steps_count Steps.
steps_count{model="a"} 3.0
steps_count{model="b"} 4.0
steps_counted 100.0
plain 2.5
"""


def test_a_metric_is_summed_over_its_labels() -> None:
    assert total(METRICS, "steps_count") == 7.0
    assert total(METRICS, "plain") == 2.5
    with pytest.raises(ValueError, match="no steps"):
        total(METRICS, "steps")


def test_words_come_from_the_first_column_once_each(tmp_path: Path) -> None:
    file = tmp_path / "words.tsv"
    file.write_text("snow\tS N OW\npowder\n\nsnow\tS N AW\n", encoding="utf-8")
    assert read_words(file) == ["snow", "powder"]


def test_words_are_made_up_the_same_way_each_time() -> None:
    words = [invent(random) for random in [Random(5)] for _ in range(500)]
    assert words == [invent(random) for random in [Random(5)] for _ in range(500)]
    assert 6 < sum(map(len, words)) / len(words) < 9
    assert all(word.isalpha() for word in words)
    assert {len(invent_long(Random(seed), 25)) for seed in range(20)} == {25}


def test_a_command_is_shown_without_where_things_lie() -> None:
    assert command_line(["--words", "/home/me/my words.tsv", "--seconds", "8"]) == (
        "python -m bench --words 'my words.tsv' --seconds 8"
    )


def test_the_whole_run(tiny_models: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--models", tiny_models, "--seconds", "0.2", "--to", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "results.json").read_text())
    assert figures["wrong_answers"] == figures["failed_calls"] == 0
    assert figures["answers_compared"] > 100
    assert 0 <= figures["others_cpu_percent"] <= 100
    assert figures["unary.mean_step_rows"] > 1
    assert figures["stream.first_token_p50_ms"] < figures["stream.p50_ms"]
    assert all(value > 0 for key, value in figures.items() if key.endswith(("rps_64", "words_s", "_ms")))
    page = (tmp_path / "RESULTS.md").read_text()
    assert "Wrong answers: **0**" in page
    assert str(tmp_path) not in page
