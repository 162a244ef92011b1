"""The parts of a run, in their order. A part leaves figures and marks behind."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable

from bench import measures, others
from bench.bench import CACHED, DECODE_ALL, Bench
from bench.h2load import calls_s
from bench.measures import latencies

OFFLINE_SHARE = 0.15  # of a measure's time, for each of the many without a server
OPEN_RATES = (500, 2000, 4000)
OPEN_SHARE = 0.8  # of the capacity
BUSY = 0.95  # of the capacity: above it a server may refuse
MIX_IN_FLIGHT = 256
MIX_SHARE = 0.6  # of the baseline's capacity, offered to both
BEAMS = 5
TOP_P = 0.9
HIGH, LOW = 1, -5  # priorities, of which the first rides in rows of its own


def measure_echo(bench: Bench) -> None:
    """The floor of a call: a server that does nothing else; behind each front that is there."""
    echoes = {"echo": "bench.echo"}
    if bench.chairlift().front == "core":
        echoes["core_echo"] = "bench.core_echo"
    for name, module in echoes.items():
        for in_flight in (1, 64):
            server = bench.server(module)
            bench.figures |= measures.measure_echo(name, server, in_flight, bench.seconds)


def measure_unary(bench: Bench, points: tuple[int, ...] = (1, 64, 256)) -> None:
    """One word a call; then, what the server holds in memory."""
    server, questions = bench.chairlift(), bench.questions().single
    for in_flight in points:
        bench.figures |= measures.measure_words(
            "unary", server, questions, in_flight, bench.seconds, bench.marks.mark
        )
    bench.figures["memory.rss_mib"], bench.figures["memory.pss_mib"] = server.memory()


def measure_lists(bench: Bench) -> None:
    """Many words a call."""
    for size in (32, 256):
        bench.figures |= measures.measure_lists(
            f"list{size}", bench.chairlift(), bench.questions().lists(size), bench.seconds, bench.marks.mark
        )


def measure_stream(bench: Bench) -> None:
    """Tokens as they are decided, one stream at a time."""
    bench.figures |= measures.measure_streams(
        bench.chairlift(), bench.questions().streams(), bench.seconds, bench.marks.mark_stream
    )


def measure_open(bench: Bench) -> None:
    """One word a call at random moments, at fixed rates, and at a share of what the server bears."""
    if "unary.rps_64" not in bench.figures:
        measure_unary(bench, (64,))
    capacity = max(bench.figures.get(f"unary.rps_{in_flight}", 0.0) for in_flight in (64, 256))
    rates = {f"open{rate}": float(rate) for rate in OPEN_RATES} | {"open80": OPEN_SHARE * capacity}
    for name, rate in rates.items():
        mark = bench.marks.mark if rate < BUSY * capacity else bench.marks.mark_overloaded
        bench.figures |= measures.measure_open(
            name, bench.chairlift(), bench.questions().single, rate, bench.seconds, mark
        )


def measure_beams(bench: Bench) -> None:
    """One word a call, by beam search."""
    for size in (1, BEAMS):
        bench.figures |= measures.measure_words(
            f"beam{size}",
            bench.chairlift(),
            bench.questions().beams(size),
            64,
            bench.seconds,
            bench.marks.mark,
        )


def measure_sampling(bench: Bench) -> None:
    """One word a call, drawn."""
    questions = bench.questions().drawn(TOP_P)
    bench.figures |= measures.measure_words(
        "sampling", bench.chairlift(), questions, 64, bench.seconds, bench.marks.mark
    )


def measure_priority(bench: Bench) -> None:
    """One word a call with priority: alone, and beside a flood without; and such a word without any."""
    server, asked, mark = bench.chairlift(), bench.questions(), bench.marks.mark
    flood, high, low = asked.lists(32, LOW), asked.singles(HIGH), asked.singles(LOW)
    for name, beside, single in (("idle", [], high), ("flood", flood, high), ("control", flood, low)):
        bench.figures |= measures.measure_beside(
            f"priority.{name}", server, beside, single, bench.seconds, mark
        )
    idle, step = bench.figures["priority.idle_p50_ms"], bench.figures["priority.control_step_ms"]
    bench.figures["priority.wanted_ms"] = 2 * idle + step  # in the control every step is one of the flood's


def measure_engines(bench: Bench) -> None:
    """The same with two engine processes; and the best of one and two."""
    server, asked, mark = bench.chairlift("--engines", "2", *DECODE_ALL), bench.questions(), bench.marks.mark
    for in_flight in (1, 64, 256):
        bench.figures |= measures.measure_words(
            "engines2.unary", server, asked.single, in_flight, bench.seconds, mark
        )
    for size in (32, 256):
        bench.figures |= measures.measure_lists(
            f"engines2.list{size}", server, asked.lists(size), bench.seconds, mark
        )
    for name, what in (
        ("unary", "rps_64"),
        ("unary", "rps_256"),
        ("list32", "words_s"),
        ("list256", "words_s"),
    ):
        both = [bench.figures.get(f"{place}{name}.{what}", 0.0) for place in ("", "engines2.")]
        bench.figures[f"{name}.{what}_best"] = max(both)


def measure_cache(bench: Bench) -> None:
    """One word a call with an answer cache: every word for the first time, then again."""
    server, questions, mark = bench.chairlift(*CACHED), bench.questions().single, bench.marks.mark
    bench.figures |= measures.measure_once("cache.cold", server, questions, 64, mark)
    bench.figures |= measures.measure_words("cache.warm", server, questions, 64, bench.seconds, mark)


def measure_baseline(bench: Bench) -> None:
    """One word a call, and many, with whole batches."""
    server, asked, mark = bench.baseline(), bench.questions(), bench.marks.mark
    bench.figures |= measures.measure_words("baseline", server, asked.single, 64, bench.seconds, mark)
    figures = measures.measure_lists("baseline.list32", server, asked.lists(32), bench.seconds, mark)
    bench.figures |= figures


def measure_mix(bench: Bench) -> None:
    """Short words beside a few very long answers: capacity; and the short ones' latency, at the same rate."""
    asked = bench.questions(bench.long())
    mixed, mark = asked.mixed(), bench.marks.mark
    servers = {"": bench.chairlift(repository=bench.long()), "baseline_": bench.baseline(bench.long())}
    for name, server in servers.items():
        bench.figures[f"mix.{name}rps"] = measures.measure_capacity(
            server, mixed, MIX_IN_FLIGHT, bench.seconds, mark
        )
    rate = bench.figures["mix.planned_rps"] = MIX_SHARE * bench.figures["mix.baseline_rps"]
    for name, server in servers.items():
        short = measures.measure_short(server, mixed, rate, bench.seconds, mark)
        bench.figures |= latencies(f"mix.{name}short_", short)


def measure_offline(bench: Bench) -> None:
    """Decoding without a server, in a process of its own."""
    command = [sys.executable, "-m", "bench.offline", str(bench.bundle)]
    command += ["--seconds", str(OFFLINE_SHARE * bench.seconds)]
    command += ["--words", str(bench.words)] if bench.words else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"bench: bench.offline failed:\n{done.stderr}")
    bench.figures |= json.loads(done.stdout)


def measure_h2load(bench: Bench) -> None:
    """The echo and one word a call once more, by another client, where it is installed."""
    asked = bench.questions()
    typical = [asked.request(word) for word in asked.typical()]
    loads = {
        "echo": (bench.server("bench.echo"), measures.ECHO, [measures.ECHO_MESSAGE]),
        "unary": (bench.chairlift(), measures.GENERATE, typical),
        "engines2": (bench.chairlift("--engines", "2", *DECODE_ALL), measures.GENERATE, typical),
    }
    for name, (server, method, messages) in loads.items():
        rate = calls_s(f"http://{server.listen}{method}", messages, 64, bench.seconds)
        if rate is not None:
            bench.figures[f"h2load.{name}.rps_64"] = rate


def measure_mosec(bench: Bench) -> None:
    """One word a call, whole batches behind Mosec, by the same other client; where both are installed."""
    _measure_other(bench, others.MOSEC)


def measure_pytriton(bench: Bench) -> None:
    """The same behind PyTriton."""
    _measure_other(bench, others.PYTRITON)


def _measure_other(bench: Bench, other: others.Other) -> None:
    version = others.version(other, bench.others)
    if not version or shutil.which("h2load") is None:
        _left_out(other, "it or h2load is not installed")
        return
    if "h2load.unary.rps_64" not in bench.figures:
        measure_h2load(bench)
    bench.about[other.name] = version
    asked = bench.questions()
    answers = {word: asked.answer(word) for word in asked.typical()}
    for workers, key in ((1, f"{other.name}.rps_64"), (2, f"{other.name}2.rps_64")):
        try:
            rate = others.calls_of_other_s(
                other, bench.others, bench.bundle, workers, answers, 64, bench.seconds
            )
        except TimeoutError as error:
            _left_out(other, str(error))
            return
        if rate is not None:
            bench.figures[key] = rate


def _left_out(other: others.Other, reason: str) -> None:
    print(f"bench: {other.name}: {reason}, left out", file=sys.stderr, flush=True)


PARTS: dict[str, Callable[[Bench], None]] = {
    "offline": measure_offline,
    "echo": measure_echo,
    "unary": measure_unary,
    "lists": measure_lists,
    "stream": measure_stream,
    "open": measure_open,
    "beams": measure_beams,
    "sampling": measure_sampling,
    "priority": measure_priority,
    "cache": measure_cache,
    "engines": measure_engines,
    "h2load": measure_h2load,
    "mosec": measure_mosec,
    "pytriton": measure_pytriton,
    "baseline": measure_baseline,
    "mix": measure_mix,
}
