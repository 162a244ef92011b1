"""Rows are joined and left at any step; everybody ends exactly once; nobody waits for the slowest."""

import threading
import time

import pytest

from service.errors import Draining, Overloaded
from service.scheduler import News, Scheduler
from service.sequence import Outcome, Sequence
from tests.service.conftest import BrokenEngine, CountdownEngine, GatedEngine

FAR = 1e9


class Lift:
    """A scheduler with its engine, and what it told."""

    def __init__(self, engine, max_waiting=100, encode_tokens=100):
        self.engine = engine
        self.told: list[Sequence] = []
        self.finished: list[Sequence] = []
        self.ended = threading.Semaphore(0)
        self.crashed = threading.Event()
        self.scheduler = Scheduler(engine, self._hear, self.crashed.set, max_waiting, encode_tokens)

    def _hear(self, news: News) -> None:
        self.told += news.streaming + news.ended
        self.finished += news.ended
        self.ended.release(len(news.ended)) if news.ended else None

    def ride(self, *sources: list[int], max_length=99, deadline=FAR, streams=False) -> list[Sequence]:
        sequences = [Sequence(ids, max_length, deadline, lambda _: None, streams) for ids in sources]
        self.scheduler.submit(sequences)
        return sequences

    def wait(self, count: int) -> None:
        for _ in range(count):
            assert self.ended.acquire(timeout=5), "a sequence never ended"


@pytest.fixture
def lift():
    lifts = []

    def make(engine=None, **options) -> Lift:
        lifts.append(Lift(engine or CountdownEngine(), **options))
        lifts[-1].scheduler.start()
        return lifts[-1]

    yield make
    for one in lifts:
        if isinstance(one.engine, GatedEngine):
            one.engine.open()
        one.scheduler.stop()
        assert not one.scheduler.running and not one.scheduler.waiting
        assert len(set(map(id, one.finished))) == len(one.finished), "a sequence ended twice"


def test_tokens_and_scores_of_one(lift):
    one = lift()
    (sequence,) = one.ride([3])
    one.wait(1)
    assert sequence.tokens == [3, 2, 1]
    assert sequence.scores == [-0.5] * 4  # <E> has a score too
    assert sequence.outcome is Outcome.EOS
    assert sequence.arrived <= sequence.started <= sequence.first_token <= sequence.finished


def test_many_more_than_rows_all_get_their_own_answer(lift):
    one = lift(CountdownEngine(rows=4))
    sequences = one.ride(*([length] for length in (9, 1, 5, 2, 7, 1, 3, 8, 2, 6, 4)))
    one.wait(len(sequences))
    for sequence in sequences:
        assert sequence.tokens == list(range(sequence.source_ids[0], 0, -1))


def test_a_row_is_taken_again_at_the_step_after_it_was_left(lift):
    """One row runs 6 tokens, the other serves 1-token riders one after the other: 2 steps each."""
    engine = GatedEngine(rows=2)
    one = lift(engine)
    long, *short = one.ride([6], [1], [1], [1])
    engine.open()
    one.wait(4)
    assert [sequence.finished <= long.finished for sequence in short] == [True] * 3
    assert engine.steps[:6] == [2] * 6  # never an empty row while somebody waited


def test_newcomers_join_in_the_middle(lift):
    engine = GatedEngine(rows=4)
    one = lift(engine)
    one.ride([5])
    engine.entered.acquire()
    one.ride([1])  # arrives while the first is inside its first step
    engine.open()
    one.wait(2)
    assert engine.steps[:3] == [1, 2, 2]


def test_length_limit_frees_the_row(lift):
    one = lift()
    (sequence,) = one.ride([9], max_length=2)
    one.wait(1)
    assert (sequence.tokens, sequence.outcome) == ([9, 8], Outcome.LENGTH)


def test_what_is_encoded_between_two_steps_is_bounded(lift):
    class Recording(CountdownEngine):
        def encode(self, sources, first_row):
            self.runs.append([len(source) for source in sources])
            super().encode(sources, first_row)

    engine = Recording(rows=8)
    engine.runs = []
    one = lift(engine, encode_tokens=6)
    one.ride(*([0] * (n - 1) + [1] for n in (2, 2, 2, 9, 1)))
    one.wait(5)
    assert all(sum(run) <= 6 or len(run) == 1 for run in engine.runs)
    assert sum(map(len, engine.runs)) == 5


def test_full_queue_refuses_the_whole_call_and_says_when(lift):
    engine = GatedEngine(rows=1)
    one = lift(engine, max_waiting=2)
    one.ride([1])
    engine.entered.acquire()
    one.ride([1])
    with pytest.raises(Overloaded, match="full") as refusal:
        one.ride([1], [1])
    assert refusal.value.reason == "QUEUE_FULL" and refusal.value.retry_seconds >= 0
    assert len(one.scheduler.waiting) == 1
    engine.open()
    one.wait(2)


def test_deadline_that_the_queue_would_outlast_is_refused_at_the_door(lift):
    engine = GatedEngine(rows=1)
    one = lift(engine)
    one.ride([1])
    engine.entered.acquire()
    one.ride([1])
    one.scheduler._rate.observe(100.0, 10)  # ten seconds each, so far
    with pytest.raises(Overloaded, match="longer than the deadline") as refusal:
        one.ride([1], deadline=time.monotonic() + 5)
    assert refusal.value.reason == "DEADLINE_UNREACHABLE"
    engine.open()
    one.wait(2)


def test_cancel_in_the_queue_ends_at_once_and_never_reaches_the_engine(lift):
    engine = GatedEngine(rows=1)
    one = lift(engine)
    one.ride([1])
    engine.entered.acquire()
    (queued,) = one.ride([7])
    one.scheduler.cancel([queued])
    assert queued.outcome is Outcome.CANCELLED and not one.scheduler.waiting
    engine.open()
    one.wait(2)
    assert [7] not in engine.encoded


def test_cancel_of_a_running_one_frees_its_row_before_the_next_step(lift):
    engine = GatedEngine(rows=2)
    one = lift(engine)
    leaver, stayer = one.ride([50], [3])
    engine.entered.acquire()
    one.scheduler.cancel([leaver])
    engine.open()
    one.wait(2)
    assert leaver.outcome is Outcome.CANCELLED and len(leaver.tokens) <= 1
    assert engine.steps[1] == 1
    assert stayer.tokens == [3, 2, 1]


def test_cancel_of_an_ended_one_changes_nothing(lift):
    one = lift()
    (sequence,) = one.ride([1])
    one.wait(1)
    one.scheduler.cancel([sequence])
    assert sequence.outcome is Outcome.EOS


def test_deadline_in_the_queue_and_in_the_middle(lift):
    engine = GatedEngine(rows=1)
    one = lift(engine)
    (running,) = one.ride([50])
    engine.entered.acquire()
    (queued,) = one.ride([7])
    running.deadline = queued.deadline = 0.0  # both are over now
    engine.open()
    one.wait(2)
    assert running.outcome is queued.outcome is Outcome.DEADLINE
    assert [7] not in engine.encoded


def test_not_a_number_fails_its_own_row_only(lift):
    one = lift(BrokenEngine(rows=2))
    poisoned, healthy = one.ride([13, 3], [3])
    one.wait(2)
    assert poisoned.outcome is Outcome.FAILED
    assert healthy.tokens == [3, 2, 1]


def test_a_step_that_throws_fails_those_inside_and_the_lift_goes_on(lift):
    one = lift(BrokenEngine(rows=2))
    (bad,) = one.ride([14, 3])
    one.wait(1)
    assert bad.outcome is Outcome.FAILED
    (good,) = one.ride([2])
    one.wait(1)
    assert good.tokens == [2, 1] and not one.crashed.is_set()


def test_an_encoder_run_that_throws_fails_its_culprit_alone(lift):
    engine = BrokenEngine(rows=4)
    one = lift(engine)
    first, bad, last = one.ride([2], [15, 3], [3])
    one.wait(3)
    assert bad.outcome is Outcome.FAILED
    assert (first.tokens, last.tokens) == ([2, 1], [3, 2, 1])


def test_a_loop_that_dies_answers_everybody_and_says_so(lift):
    class Fatal(GatedEngine):
        def move(self, source_row, target_row):
            raise SystemError("the loop's own mistake")

    engine = Fatal(rows=3)
    one = lift(engine)
    sequences = one.ride([1], [5], [5], [5])
    engine.open()
    assert one.crashed.wait(5)
    assert all(sequence.outcome is not None for sequence in sequences)
    with pytest.raises(Draining):
        one.ride([1])


def test_abort_ends_running_and_waiting_as_drained(lift):
    engine = GatedEngine(rows=1)
    one = lift(engine)
    sequences = one.ride([50], [50], [50])
    engine.entered.acquire()
    one.scheduler.abort()
    with pytest.raises(Draining):
        one.ride([1])
    engine.open()
    one.wait(3)
    assert [sequence.outcome for sequence in sequences] == [Outcome.DRAINED] * 3


def test_streams_hear_of_every_token_and_others_only_of_their_end(lift):
    one = lift()
    (stream,) = one.ride([3], streams=True)
    one.wait(1)
    (plain,) = one.ride([3])
    one.wait(1)
    assert one.told.count(stream) == 4 and one.told.count(plain) == 1


def test_the_end_of_a_sequence_is_single():
    """Negative control of the rule that every test here leans on."""
    sequence = Sequence([1], 1, FAR, lambda _: None)
    sequence.finish(Outcome.EOS, 0.0)
    with pytest.raises(AssertionError, match="ended twice"):
        sequence.finish(Outcome.CANCELLED, 0.0)
