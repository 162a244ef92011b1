"""`python -m bench`: starts an echo and a service of its own, measures both, writes what it found, ends both.

Loopback only. Stops by itself. Exit status 1 where an answer was wrong or a call failed.
"""

import argparse
import asyncio
import gc
import signal
import sys
import time
from pathlib import Path

import grpc
import uvloop

from bench import measures, report
from bench.answers import Answers
from bench.questions import Material, prepare, read_words
from bench.servers import Server, machine_seconds, running
from chairlift import AsyncClient, Model

MEASURES = 9
OVERHEAD_SECONDS = 120  # warm-ups, learning the answers, late answers


def main() -> int:
    """Runs everything once. Returns the exit status."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers end either way
    words = read_words(options.words) if options.words else []
    about = report.machine()
    service = ("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--lame-duck-seconds", "0")
    with running("bench.echo") as echo, running("service", "--models", options.models, *service) as server:
        figures, model = uvloop.run(_measure(echo, server, words, options.seconds))
    reference = model.reference
    about["model"] = (
        f"{reference.name}, version {reference.version}, digest {reference.digest[:12]}, "
        f"{model.architecture.parameters:,} weights, {model.profile} on {model.device}"
    )
    print(report.write(options.to, sys.argv[1:], about, figures))
    return 1 if figures["wrong_answers"] or figures["failed_calls"] else 0


async def _measure(
    echo: Server, server: Server, words: list[str], seconds: float
) -> tuple[measures.Figures, Model]:
    async with (
        asyncio.timeout(MEASURES * 2 * seconds + OVERHEAD_SECONDS),
        AsyncClient(server.listen) as client,
        grpc.aio.insecure_channel(echo.listen) as echo_channel,
        grpc.aio.insecure_channel(server.listen) as channel,
    ):
        model = await client.model()
        answers = Answers(channel)
        material = await prepare(answers, words, model.limits.max_source_length)
        gc.collect()
        gc.freeze()
        before = _processor_seconds(echo, server)
        figures = await _measure_all(echo, echo_channel, server, answers, material, seconds)
        ours, busy, idle = (b - a for a, b in zip(before, _processor_seconds(echo, server), strict=True))
    figures |= {
        "wrong_answers": answers.wrong,
        "answers_compared": answers.compared,
        "failed_calls": answers.failed.total(),
        "others_cpu_percent": max(0.0, 100 * (busy - ours) / (busy + idle)),
    }
    return figures, model


def _processor_seconds(echo: Server, server: Server) -> tuple[float, float, float]:
    """Used so far by this run; by the whole machine; left idle."""
    return time.process_time() + echo.cpu_seconds() + server.cpu_seconds(), *machine_seconds()


async def _measure_all(
    echo: Server,
    echo_channel: grpc.aio.Channel,
    server: Server,
    answers: Answers,
    material: Material,
    seconds: float,
) -> measures.Figures:
    """Every measure once; those that are set against each other follow each other."""
    figures: measures.Figures = {}
    for in_flight in (1, 64):
        _say(f"echo and one word a call, {in_flight} in flight")
        figures |= await measures.measure_echo(echo_channel, in_flight, seconds, echo)
        figures |= await measures.measure_words(answers, material, in_flight, seconds, server)
    _say("32 words a call")
    figures |= await measures.measure_lists(answers, material, seconds, server)
    _say("streams")
    figures |= await measures.measure_streams(answers, material, seconds, server)
    capacity = figures["unary.rps_64"]
    _say("open loop")
    figures |= await measures.measure_open(answers, material, capacity, seconds, server)
    _say("short words alone and beside long ones")
    figures |= await measures.measure_mix(answers, material, capacity, seconds)
    return figures


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measures a server of its own against a bare gRPC echo."
    )
    parser.add_argument("--models", default="models", help="model repository (default: models)")
    parser.add_argument("--seconds", type=_seconds, default=10.0, help="time of each measure (default: 10)")
    parser.add_argument("--words", type=Path, help="file of words, one a line (default: made-up words)")
    parser.add_argument(
        "--to", type=Path, default=Path("bench"), help="folder for the results (default: bench)"
    )
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"{text}; 0.1 to 600 are allowed")
    return seconds


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("bench: stopped before the end; nothing was written")
