"""The run on paper: results.json with every figure, RESULTS.md with those that matter, and the machine."""

import importlib.metadata
import json
import os
import platform
import shlex
import time
from pathlib import Path

VERSIONS = ("grpcio", "uvloop", "protobuf", "onnxruntime", "numpy", "tokenizers")

# What it is, its key, and the echo's key that it is set against.
ROWS = (
    ("one word a call, 1 in flight: calls/s", "unary.rps_1", "echo.rps_1"),
    ("— median, ms", "unary.p50_ms_1", "echo.p50_ms_1"),
    ("— 99th percentile, ms", "unary.p99_ms_1", "echo.p99_ms_1"),
    ("— server CPU, µs a call", "unary.cpu_us_1", "echo.cpu_us_1"),
    ("one word a call, 64 in flight: calls/s", "unary.rps_64", "echo.rps_64"),
    ("— median, ms", "unary.p50_ms_64", "echo.p50_ms_64"),
    ("— 99th percentile, ms", "unary.p99_ms_64", "echo.p99_ms_64"),
    ("— server CPU, µs a call", "unary.cpu_us_64", "echo.cpu_us_64"),
    ("— client CPU, µs a call", "unary.client_cpu_us_64", "echo.client_cpu_us_64"),
    ("— rows in a step, mean", "unary.mean_step_rows", ""),
    ("32 words a call, 16 in flight: words/s", "list32.words_s", "echo.rps_64"),
    ("— median of a call, ms", "list32.p50_ms", ""),
    ("— 99th percentile of a call, ms", "list32.p99_ms", ""),
    ("— server CPU, µs a word", "list32.cpu_us", "echo.cpu_us_64"),
    ("— rows in a step, mean", "list32.mean_step_rows", ""),
    ("stream, 1 in flight: first token, median, ms", "stream.first_token_p50_ms", "echo.p50_ms_1"),
    ("— first token, 99th percentile, ms", "stream.first_token_p99_ms", "echo.p99_ms_1"),
    ("— whole stream, median, ms", "stream.p50_ms", ""),
    ("open loop at half the capacity: planned calls/s", "open.planned_rps", ""),
    ("— median from the planned time, ms", "open.p50_ms", ""),
    ("— 99th percentile, ms", "open.p99_ms", ""),
    ("— of which the client sent late, median, ms", "open.sent_late_p50_ms", ""),
    ("— of which the client sent late, 99th percentile, ms", "open.sent_late_p99_ms", ""),
    ("— rows in a step, mean", "open.mean_step_rows", ""),
    ("short words alone, open loop: median, ms", "mix.alone_short_p50_ms", ""),
    ("— 99th percentile, ms", "mix.alone_short_p99_ms", ""),
    ("short words beside 5 % long ones: median, ms", "mix.short_p50_ms", ""),
    ("— 99th percentile, ms", "mix.short_p99_ms", ""),
    ("— 99th percentile, times that alone", "mix.short_p99_ratio", ""),
)

NOTES = """\
Server and client share the machine and its cores. Both servers are single processes on loopback, on
grpc.aio and uvloop; the same client drives both, one after the other, over one connection each. A ratio
divides Chairlift's figure by the echo's. CPU is processor time, user and system. The open loops send at
planned moments (Poisson) and count from them, so that their latencies hold what the client sent late.
Short words are asked at the same moments alone and with 5 % of them replaced by 25-letter ones, by
turns. Every answer was compared, byte for byte, with what the same word got alone beforehand.
"""


def machine() -> dict[str, str]:
    """What the run ran on. Holds no path and no host name."""
    versions = {name: _version(name) for name in VERSIONS}
    return {
        "CPU": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores for this run",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def command_line(arguments: list[str]) -> str:
    """The command of this run; of an absolute path, its last part alone."""
    shown = [Path(word).name if word.startswith("/") else word for word in arguments]
    return shlex.join(["python", "-m", "bench", *shown])


def write(folder: Path, arguments: list[str], about: dict[str, str], figures: dict[str, float]) -> str:
    """Writes both files into a folder, and returns the page."""
    page = results_page(command_line(arguments), about, figures)
    (folder / "RESULTS.md").write_text(page, encoding="utf-8")
    rounded = {key: value if isinstance(value, int) else round(value, 4) for key, value in figures.items()}
    (folder / "results.json").write_text(json.dumps(rounded, indent=2, sort_keys=True) + "\n")
    return page


def results_page(command: str, about: dict[str, str], figures: dict[str, float]) -> str:
    """The figures as a page of Markdown."""
    lines = ["# What it costs", "", f"    {command}", ""]
    lines += [f"- {name}: {value}" for name, value in about.items()]
    lines += ["", "| | echo | Chairlift | ratio |", "| --- | ---: | ---: | ---: |"]
    for label, key, floor in ROWS:
        value = figures[key]
        against = (_number(figures[floor]), _number(value / figures[floor])) if floor else ("", "")
        lines.append(f"| {label} | {against[0]} | {_number(value)} | {against[1]} |")
    lines += [
        "",
        f"Wrong answers: **{figures['wrong_answers']:,}** of {figures['answers_compared']:,} compared. "
        f"Failed calls: **{figures['failed_calls']:,}**.",
        f"Other processes took {figures['others_cpu_percent']:.1f} % of the machine meanwhile.",
        "",
    ]
    return "\n".join(lines) + "\n" + NOTES


def _number(value: float) -> str:
    """Three significant digits, or all of those before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
