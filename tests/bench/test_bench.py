"""Parts of a run, short, against a tiny bundle; and its small pieces."""

import itertools
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest

from bench.answers import Marks, Question, framed
from bench.machine import command_line
from bench.measures import measure_open
from bench.report import results_page
from bench.repositories import copy_model, lengthen
from bench.servers import family, total
from bench.tables import TABLES
from bench.words import choose, invent, read_words
from bundle.reader import read_bundle

ROOT = Path(__file__).parent.parent.parent
PART_NAMES = "echo,unary,lists,stream,open,sampling,priority,engines,baseline,mix"
# What is read of a run by name.
FIGURES = {
    "baseline.rps_64",
    "echo.cpu_us_64",
    "echo.p50_ms_1",
    "echo.rps_64",
    "list32.words_s",
    "list32.words_s_best",
    "mix.baseline_rps",
    "mix.baseline_short_p99_ms",
    "mix.rps",
    "mix.short_p99_ms",
    "open2000.p50_ms",
    "open2000.p99_ms",
    "open4000.answered_rps",
    "open4000.p50_ms",
    "open4000.p99_ms",
    "priority.control_p50_ms",
    "priority.flood_p50_ms",
    "priority.flood_p99_ms",
    "priority.idle_p50_ms",
    "sampling.rps_64",
    "stream.first_token_p50_ms",
    "unary.cpu_us_64",
    "unary.p50_ms_1",
    "unary.rps_256_best",
    "unary.rps_64",
}
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


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--words", "/home/me/my words.tsv", "--seconds", "8"], "--words 'my words.tsv' --seconds 8"),
        (["--words=/home/me/words.tsv", "--seconds=8"], "--words=words.tsv --seconds=8"),
        (["--models", "../mine/models", "--only=echo,unary"], "--models models --only=echo,unary"),
        (["--model", "g2p-en/1", "--model=g2p-en/3"], "--model g2p-en/1 --model=g2p-en/3"),
    ],
)
def test_a_command_is_shown_without_where_things_lie(arguments: list[str], shown: str) -> None:
    assert command_line(arguments) == f"python -m bench {shown}"


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
    with pytest.raises(ValueError, match=r"model huge: tiny/[0-9]+ are in the repository"):
        copy_model(tiny_models, "huge", tmp_path / "other")


def run(tiny_models: Path, folder: Path, *options: str) -> dict[str, float]:
    """Figures of a run with few words."""
    words = folder / "words.txt"
    words.write_text("\n".join(choose(None, 40, 12)), encoding="utf-8")
    command = [sys.executable, "-m", "bench", "--models", tiny_models, "--words", words, "--to", folder]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    figures: dict[str, float] = json.loads((folder / "results.json").read_text())
    page = (folder / "RESULTS.md").read_text()
    assert "Wrong answers: **0**" in page
    assert str(folder) not in page
    assert figures["wrong_answers"] == figures["failed_calls"] == 0
    assert figures["answers_compared"] > 100
    assert figures["others_cpu_percent"] <= 100
    return figures


def test_a_run_writes_every_figure(tiny_models: Path, tmp_path: Path) -> None:
    figures = run(tiny_models, tmp_path, "--seconds", "0.1", "--only", PART_NAMES)
    assert figures.keys() >= FIGURES
    assert all(figures[key] > 0 for key in FIGURES)
    assert figures["unary.mean_step_rows_64"] > 1
    assert figures["stream.first_token_p50_ms"] <= figures["stream.p50_ms"]
    assert figures["memory.rss_mib"] > figures["memory.pss_mib"] > 10
    assert figures["mix.planned_rps"] == pytest.approx(0.6 * figures["mix.baseline_rps"], rel=1e-3)
    both = (figures["unary.rps_256"], figures["engines2.unary.rps_256"])
    assert figures["unary.rps_256_best"] == max(both)
    assert figures["priority.wanted_ms"] > 2 * figures["priority.idle_p50_ms"]
    titles = {"Calls, against an echo", "Calls, against whole batches"}
    shown = [row.key for title, _, _, rows in TABLES if title in titles for row in rows]
    assert set(shown) <= figures.keys()


def test_a_table_of_what_was_not_measured_is_left_out() -> None:
    figures = {"h2load.unary.rps_64": 10.0, "mosec.rps_64": 20.0, "wrong_answers": 0, "answers_compared": 1}
    figures |= {"failed_calls": 0, "others_cpu_percent": -0.5, "run_seconds": 3.0}
    page = results_page("command", {}, figures)
    assert "| one process that decodes: calls/s | 20.0 | 10.0 | 0.50 |" in page
    assert "against PyTriton" not in page
    assert "-0.5 %" in page


def test_what_a_server_cannot_bear_is_counted_not_failed() -> None:
    class Full(grpc.GenericRpcHandler):
        """Refuses every third call, and lets every sixth miss its deadline."""

        calls = itertools.count()
        shut = False  # refuses every call

        def service(self, _: object) -> "grpc.RpcMethodHandler[bytes, bytes]":
            return grpc.unary_unary_rpc_method_handler(self.answer)

        def answer(self, message: bytes, context: grpc.ServicerContext) -> bytes:
            number = next(self.calls)
            if number % 6 == 0 and not self.shut:
                context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "late")
            if number % 3 == 0 or self.shut:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
            return message

    @dataclass
    class Address:
        """As much of a server as is measured here."""

        listen: str

        def cpu_seconds(self) -> float:
            return 0.0

        def steps(self) -> tuple[float, float]:
            return 0.0, 0.0

    marks, strict = Marks(), Marks()
    question = Question(framed(b"word"), framed(b"word"))
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, [Full()], options=[("grpc.so_reuseport", 0)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        address: Any = Address(f"127.0.0.1:{port}")
        figures = measure_open("open9", address, [question], 200.0, 0.3, marks.mark_overloaded)
        sent = next(Full.calls)
        measure_open("open9", address, [question], 200.0, 0.1, strict.mark)
        Full.shut = True
        shut = measure_open("open9", address, [question], 200.0, 0.1, marks.mark_overloaded)
        server.stop(0).wait()
    late, refused = math.ceil(sent / 6), math.ceil((sent - 3) / 6)
    assert (figures["open9.expired"], figures["open9.refused"], figures["open9.cancelled"]) == (
        late,
        refused,
        0,
    )
    assert marks.compared == sent - late - refused
    assert not marks.failed and not marks.wrong
    assert strict.failed, "the same calls fail where nothing is forgiven"
    assert figures["open9.answered_rps"] > 0
    assert shut["open9.refused"] > shut["open9.answered_rps"] == 0
    assert "open9.p50_ms" not in shut


def test_words_that_are_all_too_long_are_an_error(tiny_models: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("x" * 99)
    command = [sys.executable, "-m", "bench", "--models", tiny_models, "--words", words, "--only", "unary"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no words of at most 24 letters" in done.stderr
