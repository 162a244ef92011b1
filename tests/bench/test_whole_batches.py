"""Whole batches give the service's answers, only later: nobody ends before everybody has."""

from pathlib import Path

import pytest

from bench.whole_batches import WINDOW_SECONDS, WholeBatches
from bundle.reader import Bundle, read_bundle
from service.decoding.search import search_for
from service.engine import Engine
from service.hypothesis import Hypothesis, Outcome
from service.options import Options
from service.scheduler import Scheduler
from service.sequence import Sequence
from service.waiting import Waiting

LONG = Options(max_length=12, min_length=12)


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


def sequences(bundle: Bundle, engine: Engine) -> list[Sequence]:
    """Every golden source; each third takes twelve tokens, the others four at most."""
    made = []
    for number, case in enumerate(bundle.golden.cases):
        options = LONG if number % 3 == 0 else Options(max_length=4)
        search = search_for(options, engine.emitted)
        arrived = -WINDOW_SECONDS  # long ago: nothing is waited for
        source = list(case.source_ids)
        made.append(Sequence(number, source, options, float("inf"), arrived, search=search))
    return made


def answers(scheduler: Scheduler | WholeBatches, asked: list[Sequence]) -> dict[int, list[Hypothesis]]:
    scheduler.submit(asked)
    while scheduler.busy:
        scheduler.tick()
    return {ended.id: ended.hypotheses for ended in scheduler.news.ended}


def test_answers_are_those_of_the_service(bundle: Bundle) -> None:
    engine = Engine(bundle, "", 8)
    whole = WholeBatches(engine, Waiting(), 1024)
    scheduler = Scheduler(engine, Waiting(), 1024)
    assert answers(whole, sequences(bundle, engine)) == answers(scheduler, sequences(bundle, engine))


def test_everybody_waits_for_the_slowest(bundle: Bundle) -> None:
    engine = Engine(bundle, "", 8)
    whole, scheduler = WholeBatches(engine, Waiting(), 1024), Scheduler(engine, Waiting(), 1024)
    for one in (whole, scheduler):
        one.submit(sequences(bundle, engine)[:8])
        one.tick()
    assert len(whole.news.ended) == 8
    assert whole.news.step_rows == [8] * 12  # the long ones decide
    assert len(scheduler.news.ended) < 8  # the service is one step further, no more


def test_a_batch_that_is_not_full_waits_for_a_moment(bundle: Bundle) -> None:
    engine = Engine(bundle, "", 8)
    whole = WholeBatches(engine, Waiting(), 1024)
    (first, *_) = sequences(bundle, engine)
    first.arrived = float("inf")
    whole.submit([first])
    whole.tick()
    assert whole.busy
    assert not whole.news.ended
    whole.cancel([first.id])
    assert [ended.outcome for ended in whole.news.ended] == [Outcome.CANCELLED]
    assert not whole.busy
