"""Does an answer depend on who shares the step? `python -m bench.invariance --trials 100000` counts it.

A trial is one source that rides an engine in random company to its end: any number of rows, in any of them,
encoded together with others, beside neighbours who come, hang up and are moved about at any step, and beside
rows that hold what the last rider left; with attention, in memory as wide as the longest of them needs it.
Tokens, alignments and the whole distribution of every step must be, bit for bit, what the same source gets
alone. Exit status 1 where they are not (on a GPU: where the tokens are not).

No client: it drives the service's engine, without a server.
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundle.reader import Bundle, read_bundle
from service.opening import ON_CUDA, AnyEngine, open_engine

NEW_COMPANY = 0.03  # how likely, at each step, other numbers are wanted
MOVE = 0.3  # how likely, at each step, everybody gets another row
HANG_UP = 0.2  # how likely, at each step, somebody leaves before his end


@dataclass
class Ride:
    """One source on its way."""

    source: int
    row: int = 0
    tokens: list[int] = field(default_factory=list)
    scores: list[tuple[float, bytes, bytes]] = field(default_factory=list)  # token's, distribution, alignment


@dataclass
class Found:
    """What trials found."""

    trials: int = 0
    other_scores: int = 0
    other_tokens: int = 0
    hung_up: int = 0
    steps: int = 0
    step_rows: int = 0


class Company:
    """An engine, and riders who come and go at random. Sources are random ids."""

    def __init__(self, engine: AnyEngine, bundle: Bundle, sources: int, seed: int) -> None:
        limits, vocabulary = bundle.manifest.limits, bundle.manifest.vocabulary
        self._chance = random.Random(seed)
        self._engine = engine
        self._max_length = limits.max_target_length
        self._attends = bundle.manifest.architecture.attention != "none"
        self._riders: list[Ride] = []
        self._wanted = self._span = engine.rows  # how many riders, and in which rows: 0..span-1
        known = range(vocabulary.source_unknown_id + 1, vocabulary.source_size)
        self._sources = [
            self._chance.choices(known, k=self._chance.randint(1, limits.max_source_length))
            for _ in range(sources)
        ]
        self._alone = [self._ride_alone(source) for source in range(sources)]

    def run(self, trials: int) -> Found:
        """Lets so many sources ride to their ends, or a few more."""
        found = Found()
        while found.trials < trials:
            if self._chance.random() < NEW_COMPANY:
                self._wanted = round(self._engine.rows ** self._chance.random())  # small as often as large
                self._span = self._chance.choice([self._wanted, self._engine.rows])
            self._board()
            if self._chance.random() < MOVE:
                self._move()
            if self._riders and self._chance.random() < HANG_UP:
                self._riders.pop(self._chance.randrange(len(self._riders)))
                found.hung_up += 1
            if self._riders:
                self._step(found)
        return found

    def _ride_alone(self, source: int) -> Ride:
        ride = Ride(source)
        self._engine.clear()
        self._engine.encode([self._sources[source]], [0])
        while not self._advance([ride], 1):
            pass
        return ride

    def _board(self) -> None:
        """Some newcomers, as far as the company wants any."""
        newcomers = self._chance.randint(0, max(0, self._wanted - len(self._riders)))
        if not newcomers:
            return
        taken = {ride.row for ride in self._riders}
        rows = self._chance.sample([row for row in range(self._span) if row not in taken], newcomers)
        rides = [Ride(self._chance.randrange(len(self._sources)), row) for row in rows]
        self._engine.encode([self._sources[ride.source] for ride in rides], rows)
        self._riders += rides

    def _move(self) -> None:
        """Everybody to another row."""
        count = len(self._riders)
        rows = self._chance.sample(range(max(count, self._span)), count)
        self._engine.move(rows, [ride.row for ride in self._riders])
        for ride, row in zip(self._riders, rows, strict=True):
            ride.row = row

    def _step(self, found: Found) -> None:
        """One step; whoever is at his end is compared and leaves."""
        used = max(ride.row for ride in self._riders) + 1
        count = self._chance.randint(used, max(used, self._span))
        found.steps += 1
        found.step_rows += count
        for ride in self._advance(self._riders, count):
            self._riders.remove(ride)
            alone = self._alone[ride.source]
            found.trials += 1
            found.other_tokens += ride.tokens != alone.tokens
            found.other_scores += ride.scores != alone.scores

    def _advance(self, rides: list[Ride], count: int) -> list[Ride]:
        """Steps `count` rows and writes down what the rides got; those that are at their end."""
        tokens, scores = self._engine.step(count)
        rows = [ride.row for ride in rides]
        log_probs = self._engine.distributions(rows).log_probs  # [len(rides), V]
        looked = self._engine.alignments(rows) if self._attends else log_probs[:, :0]  # [len(rides), S]
        for ride, distribution, alignment in zip(rides, log_probs, looked, strict=True):
            own = alignment[: len(self._sources[ride.source])]
            ride.tokens.append(tokens[ride.row])
            ride.scores.append((scores[ride.row], distribution.tobytes(), own.tobytes()))
        ends = self._engine.end_id, self._max_length
        return [ride for ride in rides if ride.tokens[-1] == ends[0] or len(ride.tokens) == ends[1]]


def main(arguments: Sequence[str]) -> int:
    """Tries every profile of a bundle and prints a line for each. Returns the exit status."""
    options = _parser().parse_args(arguments)
    bundle = read_bundle(options.bundle)
    name = f"{bundle.manifest.name}/{bundle.manifest.version}"
    wrong = 0
    profiles = [profile.name for profile in bundle.manifest.profiles]
    if options.device == "cuda":
        profiles = [name for name in profiles if name in ON_CUDA]
    for profile in options.profile or profiles:
        engine, _ = open_engine(bundle, profile, options.rows, options.device, options.threads)
        began = time.monotonic()
        found = Company(engine, bundle, options.sources, options.seed).run(options.trials)
        print(
            f"{name} {profile} on {engine.device}: {found.trials:,} trials, "
            f"{found.other_scores:,} with other scores, {found.other_tokens:,} with other tokens "
            f"({found.hung_up:,} hung up; {found.steps:,} steps of {found.step_rows / found.steps:.1f} of "
            f"{engine.rows} rows; {options.sources} sources, seed {options.seed}, "
            f"{time.monotonic() - began:.0f} s)",
            flush=True,
        )
        wrong += found.other_tokens + (found.other_scores if engine.device == "cpu" else 0)
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.invariance", description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", type=Path, default=Path("models/g2p-en/1"), help="default: %(default)s")
    parser.add_argument("--profile", action="append", help="default: all that run there")
    parser.add_argument("--trials", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--sources", type=int, default=1000, help="different ones (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=128, help="default: %(default)s")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
