"""Are a device's answers those of the CPU, and what is rows that come and go worth on it?

The service's own scheduler and engines decode here, fed in place of its front. Letters: R rows.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

from bench.invariance import Company
from bench.whole_batches import WholeBatches
from bundle.reader import Bundle
from service import scheduler as scheduler_module
from service.decoding.search import search_for
from service.engine import Engine
from service.messages import News
from service.opening import AnyEngine
from service.options import Options
from service.scheduler import Scheduler
from service.sequence import Sequence as Decoded
from service.waiting import Waiting

ENCODE_TOKENS = 1024
LENGTHS = (4, 8, 8, 8, 12, 12, 16, 64)  # tokens of answers, as likely each: mixed, a few of them long
SHOWN = 20  # differences that are told
COMPANY_SOURCES = 200
BEAMS, BEAM_SIZE = 100, 4
Answers = list[tuple[list[int], list[float]]]


def compare_words(bundle: Bundle, engine: AnyEngine, words: Sequence[str]) -> dict[str, Any]:
    """Greedy tokens of every word, against the CPU's in float32: how many differ, and by how little."""
    sources = [bundle.source.encode(word) for word in words]
    usable = [
        i for i, source in enumerate(sources) if 0 < len(source) <= bundle.manifest.limits.max_source_length
    ]
    chosen = [sources[i] for i in usable]
    longest = bundle.manifest.limits.max_target_length
    cpu = decode(Engine(bundle, "fp32", 128), chosen, Options(longest))
    found = decode(engine, chosen, Options(longest))
    others = [i for i, (one, other) in enumerate(zip(cpu, found, strict=True)) if one[0] != other[0]]
    return {
        "words": len(chosen),
        "other_tokens": len(others),
        "largest_score_difference": max(
            (
                abs(a - b)
                for (tokens, one), (other_tokens, other) in zip(cpu, found, strict=True)
                if tokens == other_tokens
                for a, b in zip(one, other, strict=True)
            ),
            default=0.0,
        ),
        "differences": [{"word": words[usable[i]], **_difference(cpu[i], found[i])} for i in others[:SHOWN]],
    }


def compare_company(bundle: Bundle, engine: AnyEngine, trials: int) -> dict[str, int]:
    """Sources that ride in random company, against themselves alone; and beams, against the CPU's in float32.

    Meant for a bundle with attention: rows that move take along what they look back on. Answers whose tokens
    differ are counted, and those of the company that differ in scores.
    """
    found = Company(engine, bundle, min(trials, COMPANY_SOURCES), seed=0).run(trials)
    engine.clear()
    random, limits, vocabulary = Random(5), bundle.manifest.limits, bundle.manifest.vocabulary
    known = range(vocabulary.source_unknown_id + 1, vocabulary.source_size)
    sources = [random.choices(known, k=random.randint(1, limits.max_source_length)) for _ in range(BEAMS)]
    beams = Options(limits.max_target_length, beam_size=BEAM_SIZE)
    cpu, device = decode(Engine(bundle, "fp32", 128), sources, beams), decode(engine, sources, beams)
    return {
        "company.trials": found.trials,
        "company.other_tokens": found.other_tokens,
        "company.other_scores": found.other_scores,
        "company.beams": len(sources),
        "company.other_beams": sum(a[0] != b[0] for a, b in zip(cpu, device, strict=True)),
    }


def _difference(one: tuple[list[int], list[float]], other: tuple[list[int], list[float]]) -> dict[str, Any]:
    """Where two answers part, and how near the two tokens were there: a tie, or a fault."""
    pairs = zip(one[0], other[0], strict=False)
    step = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one[0]), len(other[0])))
    gap = abs(one[1][step] - other[1][step]) if step < min(len(one[1]), len(other[1])) else None
    return {"cpu": one[0], "device": other[0], "step": step, "score_gap": gap}


def decode(engine: AnyEngine, sources: Sequence[list[int]], options: Options) -> Answers:
    """Best tokens and their scores of each source, through the scheduler, all that fits at a time."""
    scheduler = Scheduler(engine, Waiting(), ENCODE_TOKENS)
    scheduler.submit(
        Decoded(i, source, options, float("inf"), 0.0, search=search_for(options, engine.emitted))
        for i, source in enumerate(sources)
    )
    found: dict[int, tuple[list[int], list[float]]] = {}
    while scheduler.busy:
        scheduler.tick()
        for end in scheduler.news.ended:
            found[end.id] = (end.hypotheses[0].tokens, end.hypotheses[0].scores)
        scheduler.news = News()
    return [found[i] for i in range(len(sources))]


def compare_batching(engine: AnyEngine, source_size: int, seconds: float) -> dict[str, float]:
    """Tokens a second with more waiting than there are rows: rows that come and go, and whole batches.

    Lengths of answers are mixed, and the same in all. Newcomers wait for company: for how much of it, and how
    many steps at the most, is tried in several ways, the service's own first.
    """
    found: dict[str, float] = {}
    ways = ((scheduler_module.COMPANY, scheduler_module.HOLD_STEPS), (32, 4), (engine.rows // 8, 8))
    for company, steps in ways:
        with _holding(company, steps):
            rates = _rate(Scheduler, engine, source_size, seconds)
        found |= {f"batching.continuous.{company}x{steps}.{key}": value for key, value in rates}
    found |= {f"batching.whole.{key}": v for key, v in _rate(WholeBatches, engine, source_size, seconds)}
    own = found["batching.continuous.{}x{}.tokens_s".format(*ways[0])]
    found["batching.ratio"] = own / found["batching.whole.tokens_s"]
    return found


@contextmanager
def _holding(company: int, steps: int) -> Iterator[None]:
    """Newcomers wait for so much company, and so many steps."""
    before = scheduler_module.COMPANY, scheduler_module.HOLD_STEPS
    scheduler_module.COMPANY, scheduler_module.HOLD_STEPS = company, steps
    try:
        yield
    finally:
        scheduler_module.COMPANY, scheduler_module.HOLD_STEPS = before


def _rate(
    kind: Callable[..., Any], engine: AnyEngine, source_size: int, seconds: float
) -> list[tuple[str, float]]:
    random, numbers = Random(3), itertools.count()
    scheduler = kind(engine, Waiting(), ENCODE_TOKENS)
    tokens = stepped = steps = 0
    began = now = time.perf_counter()
    while now - began < seconds:
        while len(scheduler.waiting) < 2 * engine.rows:
            source = random.choices(range(2, source_size), k=random.randint(3, 12))
            options = Options(max_length=random.choice(LENGTHS))
            scheduler.submit([Decoded(next(numbers), source, options, float("inf"), 0.0)])
        scheduler.tick()
        tokens += sum(len(end.hypotheses[0].scores) for end in scheduler.news.ended)
        stepped += sum(scheduler.news.step_rows)
        steps += len(scheduler.news.step_rows)
        scheduler.news = News()
        now = time.perf_counter()
    used = tokens if kind is WholeBatches else stepped
    return [
        ("tokens_s", tokens / (now - began)),
        ("rows_in_use", used / (steps * engine.rows)),  # of all rows, those that made a token for somebody
        ("step_us", (now - began) / max(1, steps) * 1e6),
    ]
