"""Is memory flat, however long a server decodes? `python -m bench.memory` looks, over a million steps.

An engine decodes in its two lanes, as an engine process has them. Sources of random ids ride it, in crowds
that are small as often as large: greedily, by beams, cascades and draws, with every kind of constraint, as
streams or not. Newcomers are encoded between any two steps; some hang up, and some run out of time. Before
each look at memory everybody has ended, so that what is held then is held for nobody. Exit status 1 where
resident memory grew by more than a bound between the end of the warm-up and the end.

Like bench.invariance no client: it drives the service's scheduler and engine, without a server.
"""

import argparse
import gc
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from bundle.reader import Bundle, read_bundle
from bundle.repository import newest
from service.collector import settle
from service.decoding.search import search_for
from service.dispatcher import express_rows
from service.lanes import Lanes
from service.messages import Ended, frame
from service.opening import AnyEngine, open_beside, open_engine
from service.options import Options, Sampling, pack
from service.scheduler import Scheduler
from service.sequence import Sequence as Rider
from service.settings import Settings
from service.waiting import Waiting

LOOKS = 20  # at memory, after the warm-up
WARM_UP_SHARE, LEAST_WARM_UP = 0.1, 10_000  # of the steps, and in steps; a lane's log fills up in 1,024
NEW_COMPANY = 0.03  # how likely, at each step, other numbers are wanted
HANG_UP = 0.05  # how likely, at each step, one of those who came last leaves, if it has not ended
SHORT_OF_TIME = 0.1  # of all who come: there are so many steps at most before their deadlines
PATIENCE_STEPS, LONG_STEPS = 30, 10_000


class Look(NamedTuple):
    """What the process holds: resident memory as Linux has it, and blocks of Python's allocator."""

    resident_kib: int
    blocks: int

    @classmethod
    def now(cls) -> "Look":
        """Once Python has collected its garbage."""
        gc.collect()
        status = Path("/proc/self/status").read_text().splitlines()
        resident = next(line for line in status if line.startswith("VmRSS:"))
        return cls(int(resident.split()[1]), sys.getallocatedblocks())


class Crowd:
    """Two lanes, and riders who come and go at random. Time is counted in ticks.

    `keeps`: it never lets go of what became of a rider, which is what must be seen.
    """

    def __init__(self, common: AnyEngine, express: AnyEngine, bundle: Bundle, seed: int, keeps: bool) -> None:
        limits, vocabulary = bundle.manifest.limits, bundle.manifest.vocabulary
        self.steps = self.step_rows = self.encoded = self.came = 0
        self.ended: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._engine = common
        self._lanes = Lanes(
            *(Scheduler(e, Waiting(), Settings().encode_tokens, lambda: self._now) for e in (common, express))
        )
        self._now = 0.0
        self._wanted = common.rows  # how many riders
        self._known = range(vocabulary.source_unknown_id + 1, vocabulary.source_size)
        self._longest_source, self._longest = limits.max_source_length, limits.max_target_length
        self._attends = bundle.manifest.architecture.attention != "none"
        self._kept: list[Ended] | None = [] if keeps else None

    def ride(self, steps: int, full: bool = False) -> None:
        """Lets them come and go for so many steps, then all ride to their ends. `full`: with every row."""
        stop, chance = self.steps + steps, self._chance
        self._wanted = self._engine.rows
        while self.steps < stop:
            if chance.random() < NEW_COMPANY and not full:
                self._wanted = round(self._engine.rows ** chance.random())  # small as often as large
            inside = self.came - self.ended.total()
            if inside < self._wanted:
                self._come(chance.randint(1, self._wanted - inside))
            if chance.random() < HANG_UP:
                self._lanes.cancel([self.came - chance.randrange(self._engine.rows)])
            self._tick()
        while self._lanes.busy:
            self._tick()

    def _come(self, count: int) -> None:
        for _ in range(count):
            self.came += 1
            options = self._options()
            hurry = self._chance.random() < SHORT_OF_TIME
            seconds = self._chance.randint(1, PATIENCE_STEPS) if hurry else LONG_STEPS
            source = self._chance.choices(self._known, k=self._chance.randint(1, self._longest_source))
            rider = Rider(
                id=self.came,
                source_ids=source,
                options=options,
                deadline=self._now + seconds,
                arrived=self._now,
                priority=self._chance.choice((-1, 0, 0, 1)),
                streams=self._chance.random() < 0.2,
                search=search_for(options, self._engine.emitted),
            )
            self._lanes.submit([rider])

    def _options(self) -> Options:
        """One way of decoding: half of them greedy."""
        chance, tokens = self._chance, range(1, self._engine.emitted)
        longest = chance.randint(3, self._longest)
        few = tuple(chance.sample(tokens, 3))
        greedy = Options(longest, min_length=chance.choice((0, 0, longest // 2)))
        other = (
            Options(longest, beam_size=chance.randint(2, 4), n_best=2),
            Options(longest, beam_size=4, length_penalty=1.0, alternatives=2),
            Options(longest, cascade_margin=0.3, beam_size=3),
            Options(longest, sampling=Sampling(chance.getrandbits(64), 1.5)),
            Options(longest, sampling=Sampling(chance.getrandbits(64), 0.8, top_k=8, top_p=0.9)),
            Options(longest, prefix=few),
            Options(longest, banned=few, biases=((few[0], 1.0), (few[1], -1.0))),
            Options(longest, allowed=tuple(tokens[::2])),
            Options(longest, lexicon=pack([few, few[:1], few[::-1]]), beam_size=2),
            Options(longest, no_repeat_ngram=2, loop_repeats=2),
        )
        kind = chance.choice((greedy, chance.choice(other)))
        return replace(
            kind,
            partial_on_deadline=chance.random() < 0.5,
            alignments=self._attends and chance.random() < 0.1,
        )

    def _tick(self) -> None:
        self._lanes.tick()
        self._now += 1
        for news in self._lanes.take_news():
            frame(news)  # what would be sent
            self.steps += len(news.step_rows)
            self.step_rows += sum(news.step_rows)
            self.encoded += len(news.encode_rows)
            self.ended.update(end.outcome.value for end in news.ended)
            if self._kept is not None:
                self._kept += news.ended


def main(arguments: Sequence[str]) -> int:
    """Prints what is held, look by look, and by how much it grew. Returns the exit status."""
    options = _parser().parse_args(arguments)
    folder = options.bundle or newest(Path("models"), "g2p-en")
    if folder is None:
        raise SystemExit("models/ holds no g2p-en: say --bundle FOLDER")
    bundle = read_bundle(folder)
    common, _ = open_engine(bundle, options.profile, options.rows, "cpu", 1, options.kernels == "on")
    express = open_beside(common, bundle, express_rows(options.rows))
    for engine in (common, express):
        engine.warm_up()
        _encode_the_most(engine, bundle)
    crowd = Crowd(common, express, bundle, options.seed, options.keep)
    settle()
    began = time.monotonic()
    warm_up = options.warm_up or max(LEAST_WARM_UP, round(WARM_UP_SHARE * options.steps))
    for full in (True, False):  # what grows with the crowd has then grown
        crowd.ride(warm_up // 2, full)
    warm = last = _look(crowd)
    for _ in range(LOOKS):
        crowd.ride(options.steps // LOOKS)
        last = _look(crowd)
    grown = last.resident_kib - warm.resident_kib
    ends = ", ".join(f"{count:,} {outcome}" for outcome, count in crowd.ended.most_common())
    print(
        f"{bundle.manifest.name}/{bundle.manifest.version} {common.profile.name} on {common.runtime}: "
        f"{crowd.steps:,} steps of {crowd.step_rows / crowd.steps:.1f} rows ({options.rows} there), "
        f"{crowd.encoded:,} encoder runs, {crowd.came:,} sequences ({ends}); seed {options.seed}, "
        f"{time.monotonic() - began:.0f} s"
    )
    print(
        f"from the end of the warm-up to the end resident memory grew by {grown:,} KiB "
        f"({options.bound_kib:,} are allowed), Python's blocks by {last.blocks - warm.blocks:,}"
    )
    return 1 if grown > options.bound_kib else 0


def _encode_the_most(engine: AnyEngine, bundle: Bundle) -> None:
    """The largest run there may be, for which the encoder keeps room; by chance it comes late or never."""
    source = [bundle.manifest.vocabulary.source_unknown_id] * bundle.manifest.limits.max_source_length
    engine.encode([source] * engine.rows, range(engine.rows))
    engine.step(engine.rows)
    engine.clear()


def _look(crowd: Crowd) -> Look:
    look = Look.now()
    print(f"{crowd.steps:9,} steps: {look.resident_kib:,} KiB, {look.blocks:,} blocks", flush=True)
    return look


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--bundle", type=Path, help="default: the newest g2p-en of models/")
    add("--profile", default="", help="default: the bundle's own choice")
    add("--kernels", choices=["on", "off"], default="on", help="default: %(default)s")
    add("--rows", type=int, default=64, help="default: %(default)s")
    add("--steps", type=int, default=1_000_000, help="default: %(default)s")
    add("--warm-up", type=int, help=f"steps before those (default: a tenth, {LEAST_WARM_UP} at least)")
    add("--bound-kib", type=int, default=2048, help="what it may grow by (default: %(default)s)")
    add("--keep", action="store_true", help="keep what ended, as a leak would: it must be seen")
    add("--seed", type=int, default=0, help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
