"""`python -m bench`: starts servers of its own, measures each, writes what it found, ends them all.

Loopback only. Stops by itself. Exit status 1 where an answer was wrong or a call failed.
"""

import argparse
import gc
import os
import signal
import sys
import time
from pathlib import Path

import grpc

from bench import machine, report
from bench.bench import Bench
from bench.http2 import ConnectionLost
from bench.parts import PARTS
from bench.servers import machine_seconds


def main() -> int:
    """Runs every part once, or those that were named. Returns the exit status."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers end either way
    gc.disable()  # nothing here makes cycles, and a collection in the middle would look like latency
    about = machine.describe()
    began, before = time.perf_counter(), machine_seconds()
    with Bench(options.models, options.model, options.words, options.seconds, options.others) as bench:
        for name, part in PARTS.items():
            if name in options.only:
                wrong, failed = bench.marks.wrong, bench.marks.failed.total()
                part(bench)
                wrong, failed = bench.marks.wrong - wrong, bench.marks.failed.total() - failed
                text = f"bench: {name}: {wrong} wrong answers, {failed} failed calls"
                print(text, file=sys.stderr, flush=True)
        about |= {"model": bench.model, **bench.about}
    busy, idle = (after - first for after, first in zip(machine_seconds(), before, strict=True))
    ours = sum(os.times()[:4])  # user and system time of this process and of those that it waited for
    figures = bench.figures | {
        "wrong_answers": bench.marks.wrong,
        "answers_compared": bench.marks.compared,
        "failed_calls": bench.marks.failed.total(),
        "others_cpu_percent": 100 * (busy - ours) / (busy + idle),
        "run_seconds": time.perf_counter() - began,
    }
    page = report.results_page(machine.command_line(sys.argv[1:]), about, figures)
    if folder := options.to or (Path("bench") if options.only == tuple(PARTS) else None):
        report.write(folder, page, about, figures)
    print(page)
    return 1 if figures["wrong_answers"] or figures["failed_calls"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures Chairlift against an echo, whole batches and servers of others; and\n"
        "what decoding costs without a server.",
        epilog="parts, in their order:\n"
        + "\n".join(f"  {name:<10}{(part.__doc__ or '').strip()}" for name, part in PARTS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--models", type=Path, default=Path("models"), help="model repository (default: models)")
    add(
        "--model",
        default="",
        help="NAME or NAME/VERSION (default: the only model, or g2p-en/1)",
    )
    add("--seconds", type=_seconds, default=8.0, help="time of each measure, 0.1 to 60 (default: 8)")
    add("--words", type=Path, help="file of words, one a line (default: made-up English ones)")
    add(
        "--only", type=_parts, default=tuple(PARTS), help="parts of a run, with commas between (default: all)"
    )
    add(
        "--others", default=sys.executable, help="interpreter with mosec, nvidia-pytriton (default: this one)"
    )
    add("--to", type=Path, help="folder for the results (default: bench for a whole run, else none)")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"{text}; 0.1 to 60 are allowed")
    return seconds


def _parts(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"{name!r}; {', '.join(PARTS)} are allowed")
    return names


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("bench: stopped before the end; nothing was written")
    except grpc.RpcError as error:
        sys.exit(f"bench: what was to be learnt was refused: {error.details()}")
    except (ConnectionLost, RuntimeError, ValueError) as error:
        sys.exit(f"bench: {error}")
