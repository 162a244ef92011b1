"""How sequences end: cancelled, out of time, failed, drained, streamed; each alone, and exactly once."""

import pytest

from service import waiting
from service.decoding.search import search_for
from service.hypothesis import Outcome
from service.options import Options
from service.sequence import Sequence
from service.waiting import FEW
from tests.service.conftest import BrokenEngine, CountdownEngine
from tests.service.decoding_cases import decode, run
from tests.service.lift import FAR, Lift, TableEngine

pytestmark = pytest.mark.usefixtures("nobody_is_held")


def test_cancel_in_the_queue_never_reaches_the_engine():
    engine = CountdownEngine(rows=1)
    lift = Lift(engine)
    lift.ride([1])
    lift.tick()
    (queued,) = lift.ride([7])
    lift.cancel(queued)
    lift.run()
    assert lift.outcome(queued) is Outcome.CANCELLED
    assert [7] not in engine.encoded


def test_cancel_of_a_running_one_frees_its_row_before_the_next_step():
    engine = CountdownEngine(rows=2)
    lift = Lift(engine)
    leaver, stayer = lift.ride([50], [3])
    lift.tick()
    lift.cancel(leaver)
    lift.run()
    assert lift.outcome(leaver) is Outcome.CANCELLED and not lift.ended[leaver.id].hypotheses
    assert engine.counts[1] == 1
    assert lift.tokens(stayer) == [3, 2, 1]


def test_cancel_of_an_ended_or_unknown_one_changes_nothing():
    lift = Lift(CountdownEngine())
    (sequence,) = lift.ride([1])
    lift.run()
    lift.cancel(sequence)
    lift.scheduler.cancel([12345])
    lift.take_news()
    assert lift.outcome(sequence) is Outcome.EOS


def test_deadline_in_the_queue_and_in_the_middle():
    engine = CountdownEngine(rows=1)
    lift = Lift(engine)
    (running,) = lift.ride([50], deadline=lift.now + 3)
    (queued,) = lift.ride([7], deadline=lift.now + 3)
    lift.tick(3)
    assert not lift.ended
    lift.tick()
    assert lift.outcome(running) is lift.outcome(queued) is Outcome.DEADLINE
    assert not lift.ended[running.id].hypotheses
    assert [7] not in engine.encoded and engine.counts == [1] * 3


WAYS = {
    "plain": Options(60, partial_on_deadline=True),
    "single": Options(60, min_length=50, partial_on_deadline=True),
    "beam": Options(60, min_length=50, partial_on_deadline=True, beam_size=3, n_best=2),
}


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_partial_on_deadline_gives_the_best_so_far(options):
    lift = Lift(TableEngine(rows=3))
    model = lift.engine.alone
    source = next([n] for n in range(99) if len(decode(Options(60), 12, model([n]))[0].tokens) > 9)
    running, *_, queued = lift.ride(*[source] * 4, options=options, deadline=lift.now + 4)
    lift.tick(5)
    assert {lift.outcome(running), lift.outcome(queued)} == {Outcome.DEADLINE}
    found = lift.ended[running.id].hypotheses
    assert {(h.reason, len(h.tokens)) for h in found} == {("deadline", 4)}
    assert len(found) == options.n_best
    assert lift.ended[queued.id].hypotheses == [], "no tokens are no answer"


def test_a_cascade_out_of_time_has_its_greedy_half():
    """Its beam waits for rows, which others keep."""
    lift = Lift(TableEngine(rows=3))
    options = Options(60, min_length=50, beam_size=3, cascade_margin=0.1, partial_on_deadline=True)

    def half(source):
        """Tokens until two come too close, as the cascade takes them."""
        search = search_for(options, 12)
        for _ in run(search, lift.engine.alone(source)):
            pass
        return search.again._before.tokens if search.again else []

    source, wanted = next(([n], half([n])) for n in range(999) if len(half([n])) == 4)
    lift.ride([1], [2], options=Options(99, min_length=99))  # two of the three rows
    (cascade,) = lift.ride(source, options=options, deadline=lift.now + 9)
    lift.run()
    assert lift.outcome(cascade) is Outcome.DEADLINE
    assert [(h.tokens, h.reason) for h in lift.ended[cascade.id].hypotheses] == [(wanted, "deadline")]


def test_not_a_number_fails_its_own_row_only():
    lift = Lift(BrokenEngine(rows=2))
    poisoned, healthy = lift.ride([13, 3], [3])
    lift.run()
    assert lift.outcome(poisoned) is Outcome.FAILED
    assert lift.tokens(healthy) == [3, 2, 1]


def test_a_step_that_throws_fails_its_culprit_alone():
    lift = Lift(BrokenEngine(rows=4))
    first, bad, wide = (
        *lift.ride([3], [14, 3]),
        *lift.ride([2, 4], options=Options(9, beam_size=2)),
    )
    lift.run()
    assert lift.outcome(bad) is Outcome.FAILED
    assert lift.tokens(first) == [3, 2, 1] and lift.tokens(wide) == [4, 3, 2, 1]
    assert "secret" not in str(lift.ended[bad.id])


def test_a_least_length_is_kept_in_a_step_that_throws():
    """The step says <E> for whoever comes beside the culprit, who may not end before his third."""
    lift = Lift(BrokenEngine(rows=4))
    lift.ride([14, 3])
    (short,) = lift.ride([0], options=Options(9, min_length=2))
    lift.run()
    assert lift.outcome(short) is Outcome.EOS
    assert len(lift.tokens(short)) == 2


def test_an_encoder_run_that_throws_fails_its_culprit_alone():
    engine = BrokenEngine(rows=4)
    lift = Lift(engine)
    lift.ride([9])
    lift.tick(3)  # steps of one row are in the log: the newcomers have no share in them
    first, bad, last = lift.ride([2], [15, 3], [3])
    lift.run()
    assert lift.outcome(bad) is Outcome.FAILED
    assert (lift.tokens(first), lift.tokens(last)) == ([2, 1], [3, 2, 1])
    assert lift.tokens(Sequence(1, [], Options(1), FAR, 0.0)) == [9, 8, 7, 6, 5, 4, 3, 2, 1]


def test_a_search_that_throws_fails_alone():
    class Clumsy:
        width = 2
        again = None
        final: tuple[int, ...] = ()

        def advance(self, rows):
            raise ZeroDivisionError("a secret of the search")

    lift = Lift(TableEngine(rows=6))
    bad, plain = lift.ride([1], [2])
    (beam,) = lift.ride([3], options=Options(9, beam_size=3))
    bad.search = Clumsy()
    lift.run()
    assert lift.outcome(bad) is Outcome.FAILED
    assert lift.tokens(plain) == decode(Options(99), 12, lift.engine.alone([2]))[0].tokens
    assert lift.ended[beam.id].hypotheses == decode(beam.options, 12, lift.engine.alone([3]))


def test_abort_ends_running_and_waiting_as_drained():
    lift = Lift(CountdownEngine(rows=2))
    sequences = lift.ride([50], [50], [50])
    lift.tick()
    lift.scheduler.abort()
    lift.take_news()
    assert {lift.outcome(sequence) for sequence in sequences} == {Outcome.DRAINED}
    assert not lift.scheduler.busy
    (again,) = lift.ride([2])
    lift.run()
    assert lift.tokens(again) == [2, 1]


def test_streams_hear_of_every_token_and_others_only_of_their_end():
    lift = Lift(CountdownEngine())
    (stream,) = lift.ride([3], streams=True)
    (plain,) = lift.ride([3])
    lift.tick(2)
    assert lift.progress == {stream.id: [3, 2]}
    lift.run()
    assert lift.progress == {stream.id: [3, 2, 1]}
    assert lift.tokens(plain) == [3, 2, 1]


def test_streams_of_beams_hear_only_what_is_final():
    chunks = 0
    for number in range(40):
        lift = Lift(TableEngine(rows=4))
        options = Options(9, beam_size=4, sampling=None)
        (stream,) = lift.ride([number], options=options, streams=True)
        lift.run()
        said = lift.progress.get(stream.id, [])
        assert said == lift.tokens(stream)[: len(said)]
        chunks += len(said) > 0
    assert chunks > 5, "no beam was ever sure of anything: the test proved nothing"


def test_a_mistake_of_the_loop_is_not_swallowed():
    """Whoever runs the loop must learn of it: the process ends, and the front answers everybody."""

    class Fatal(CountdownEngine):
        def move(self, rows, sources):
            raise SystemError("the loop's own mistake")

    lift = Lift(Fatal(rows=3))
    lift.ride([1], [5], [5])
    with pytest.raises(SystemError):
        lift.run()


def test_the_end_of_a_sequence_is_single():
    """Negative control of the rule that every test here leans on."""
    sequence = Sequence(1, [1], Options(1), FAR, 0.0)
    sequence.finish(Outcome.EOS, 0.0)
    with pytest.raises(AssertionError, match="ended twice"):
        sequence.finish(Outcome.CANCELLED, 0.0)


def deadlines_left(crowds: int = 20) -> int:
    """Of those who are gone: far ones would else pile up for as long as they are far."""
    one = Lift(CountdownEngine())
    for _ in range(crowds):
        one.cancel(*one.ride(*[[9]] * 10))
        one.ride(*[[1]] * 20)
        one.run()
    return len(one.scheduler._deadlines)


def test_deadlines_of_those_who_ended_are_forgotten():
    assert deadlines_left() <= FEW


def test_the_detector_sees_deadlines_pile_up(monkeypatch):
    """Negative control: nothing cleans up."""
    monkeypatch.setattr(waiting, "FEW", 10**9)
    assert deadlines_left() == 20 * 30
