"""Parts of a run, short, against a tiny bundle; and its small pieces."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from bench.machine import command_line
from bench.repositories import copy_model, lengthen
from bench.servers import family, total
from bench.tables import TABLES
from bench.words import choose, invent, read_words
from bundle.reader import read_bundle

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


def test_a_family_is_a_process_and_all_below_it() -> None:
    code = (
        "import subprocess, sys; p = subprocess.Popen(['cat'], stdin=-1); print(p.pid, flush=True); input()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin
        assert child.stdout
        grandchild = int(child.stdout.readline())
        assert family(child.pid) == [child.pid, grandchild]
        assert {child.pid, grandchild} < set(family(os.getpid()))
        child.stdin.write("\n")


def test_words_come_from_the_first_column_once_each(tmp_path: Path) -> None:
    file = tmp_path / "words.tsv"
    file.write_text("snow\tS N OW\npowder\n\nsnow\tS N AW\n", encoding="utf-8")
    assert read_words(file) == ["snow", "powder"]
    assert choose(file, 10, 5) == ["snow"]
    with pytest.raises(ValueError, match="at most 3 letters"):
        choose(file, 10, 3)


def test_words_are_made_up_the_same_way_each_time() -> None:
    words = [invent(random) for random in [Random(5)] for _ in range(500)]
    assert words == [invent(random) for random in [Random(5)] for _ in range(500)]
    assert all(word.isalpha() for word in words)
    chosen = choose(None, 1000, 48)
    assert len(set(chosen)) == len(chosen) == 1000
    assert 8 < sum(map(len, chosen)) / len(chosen) < 10


def test_a_command_is_shown_without_where_things_lie() -> None:
    assert command_line(["--words", "/home/me/my words.tsv", "--seconds", "8"]) == (
        "python -m bench --words 'my words.tsv' --seconds 8"
    )


def test_a_copy_is_the_same_bundle_and_a_longer_one_differs_in_its_limit(
    tiny_models: Path, tmp_path: Path
) -> None:
    copy = copy_model(tiny_models, "", tmp_path / "plain")
    lengthen(copy, 200, tmp_path / "long")
    first, same = read_bundle(tiny_models / "tiny" / "1"), read_bundle(copy)
    long = read_bundle(tmp_path / "long" / "tiny" / "1")
    assert first.digest == same.digest != long.digest
    assert long.manifest.limits.max_target_length == 200
    assert long.graphs == first.graphs
    with pytest.raises(ValueError, match="'huge': tiny are in the repository"):
        copy_model(tiny_models, "huge", tmp_path / "other")


def run(tiny_models: Path, folder: Path, only: str) -> dict[str, float]:
    """Figures of some parts of a run, with few words."""
    words = folder / "words.txt"
    words.write_text("\n".join(choose(None, 40, 12)), encoding="utf-8")
    command = [sys.executable, "-m", "bench", "--models", tiny_models, "--words", words, "--to", folder]
    done = subprocess.run(
        [*command, "--seconds", "0.2", "--only", only], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, float] = json.loads((folder / "results.json").read_text())
    page = (folder / "RESULTS.md").read_text()
    assert "Wrong answers: **0**" in page
    assert str(folder) not in page
    assert figures["wrong_answers"] == figures["failed_calls"] == 0
    assert figures["answers_compared"] > 100
    assert 0 <= figures["others_cpu_percent"] <= 100
    return figures


def test_calls_are_measured(tiny_models: Path, tmp_path: Path) -> None:
    figures = run(tiny_models, tmp_path, "echo,unary,lists,stream,open")
    assert figures["unary.mean_step_rows_64"] > 1
    assert figures["stream.first_token_p50_ms"] <= figures["stream.p50_ms"]
    assert figures["memory.rss_mib"] > figures["memory.pss_mib"] > 10
    assert all(value > 0 for key, value in figures.items() if key.endswith(("rps_64", "words_s", "_ms")))
    calls = next(rows for title, _, _, rows in TABLES if title == "Calls, against an echo")
    assert {row.key for row in calls} <= figures.keys()


def test_whole_batches_are_measured_beside_chairlift(tiny_models: Path, tmp_path: Path) -> None:
    figures = run(tiny_models, tmp_path, "mix")
    assert figures["mix.planned_rps"] == pytest.approx(0.6 * figures["mix.baseline_rps"], rel=1e-3)
    assert {"mix.rps", "mix.short_p99_ms", "mix.baseline_short_p99_ms"} <= figures.keys()
