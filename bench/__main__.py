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
    with Bench(options.models, options.model, options.words, options.seconds) as bench:
        for name, part in PARTS.items():
            if name in options.only:
                wrong, failed = bench.marks.wrong, bench.marks.failed.total()
                part(bench)
                wrong, failed = bench.marks.wrong - wrong, bench.marks.failed.total() - failed
                text = f"bench: {name}: {wrong} wrong answers, {failed} failed calls"
                print(text, file=sys.stderr, flush=True)
        about["model"] = bench.model
    busy, idle = (after - first for after, first in zip(machine_seconds(), before, strict=True))
    ours = sum(os.times()[:4])  # user and system time of this process and of those that it waited for
    figures = bench.figures | {
        "wrong_answers": bench.marks.wrong,
        "answers_compared": bench.marks.compared,
        "failed_calls": bench.marks.failed.total(),
        "others_cpu_percent": max(0.0, 100 * (busy - ours) / (busy + idle)),
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
        description="Measures Chairlift against an echo, against whole batches, and without a server.",
    )
    parser.add_argument(
        "--models", type=Path, default=Path("models"), help="model repository (default: models)"
    )
    parser.add_argument("--model", default="", help="which model (default: the only one, or g2p-en)")
    parser.add_argument("--seconds", type=_seconds, default=8.0, help="time of each measure (default: 8)")
    parser.add_argument("--words", type=Path, help="file of words, one a line (default: made-up words)")
    parser.add_argument(
        "--only",
        type=_parts,
        default=tuple(PARTS),
        help=f"parts of a run, of {','.join(PARTS)} (default: all)",
    )
    parser.add_argument(
        "--to", type=Path, help="folder for the results (default: bench for a whole run, else none)"
    )
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
    except (ConnectionLost, ValueError) as error:
        sys.exit(f"bench: {error}")
