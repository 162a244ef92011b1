"""`python -m bench.profile`: what the front does with its time under load, function by function.

The service runs under cProfile, which sees the event loop's thread: not gRPC's poller, and not the engines.
Its clock is the wall's: waiting counts where it waits, in `drain` of service/lifecycle.py. And it slows down
what calls much: read shares and numbers of calls, not speeds.
"""

import argparse
import pstats
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.bench import Bench
from bench.measures import measure_lists, measure_words


def main() -> int:
    """Prints the functions that take most. Returns the exit status: 1 where an answer was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.profile", description="Profiles the front under load."
    )
    add = parser.add_argument
    add("--models", type=Path, default=Path("models"), help="model repository (default: models)")
    add(
        "--model",
        default="",
        help="NAME or NAME/VERSION (default: the only model, or g2p-en/1)",
    )
    add("--seconds", type=float, default=4.0, help="time under load (default: 4)")
    add("--in-flight", type=int, default=64, help="calls of one word at a time (default: 64)")
    add("--list", type=int, help="words a call, 16 calls at a time, instead of one word a call")
    add("--lines", type=int, default=30, help="functions that are shown (default: 30)")
    add("--to", type=Path, help="file for the whole profile, for pstats and its viewers (default: none)")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        file = options.to or Path(folder) / "profile"
        with Bench(options.models, options.model, None, options.seconds) as bench:
            asked, server = bench.questions(), bench.profiled(file)
            if options.list:
                lists = asked.lists(options.list)
                figures = measure_lists("front", server, lists, options.seconds, bench.marks.mark)
            else:
                single, together = asked.single, options.in_flight
                figures = measure_words("front", server, single, together, options.seconds, bench.marks.mark)
        for key, value in figures.items():
            print(f"{key}: {value:.1f}")
        pstats.Stats(str(file)).strip_dirs().sort_stats("tottime").print_stats(options.lines)
    return 1 if bench.marks.wrong or bench.marks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
