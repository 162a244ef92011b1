"""Rows are joined and left at any step; everybody ends exactly once; nobody waits for the slowest."""

import pytest

from service import scheduler as module
from service.hypothesis import Hypothesis
from service.options import Options, Sampling
from service.sequence import Outcome, Sequence
from tests.service.conftest import BrokenEngine, CountdownEngine
from tests.service.decoding_cases import decode
from tests.service.lift import FAR, Lift, TableEngine


@pytest.fixture(autouse=True)
def nobody_is_held(monkeypatch):
    """Newcomers get their rows at once, unless a test says otherwise."""
    monkeypatch.setattr(module, "HOLD_STEPS", 0)


def test_tokens_and_scores_of_one():
    lift = Lift(CountdownEngine())
    (sequence,) = lift.ride([3])
    lift.run()
    end = lift.ended[sequence.id]
    assert end.hypotheses == [Hypothesis([3, 2, 1], [-0.5] * 4, "eos", -2.0, -2.0)]  # <E> has a score too
    assert end.outcome is sequence.outcome is Outcome.EOS
    assert sequence.arrived <= end.started <= end.first_token <= end.finished


def test_many_more_than_rows_all_get_their_own_answer():
    lift = Lift(CountdownEngine(rows=4))
    sequences = lift.ride(*([length] for length in (9, 1, 5, 2, 7, 1, 3, 8, 2, 6, 4)))
    lift.run()
    for sequence in sequences:
        assert lift.tokens(sequence) == list(range(sequence.source_ids[0], 0, -1))


def test_a_row_is_taken_again_at_the_step_after_it_was_left():
    """One row runs 6 tokens, the other serves 1-token riders one after the other: 2 steps each."""
    engine = CountdownEngine(rows=2)
    lift = Lift(engine)
    long, *short = lift.ride([6], [1], [1], [1])
    lift.run()
    assert all(lift.ended[sequence.id].finished <= lift.ended[long.id].finished for sequence in short)
    assert engine.steps[:6] == [2] * 6  # never an empty row while somebody waited


def test_a_newcomer_takes_the_hole_and_nobody_moves():
    class Still(CountdownEngine):
        def move(self, rows, sources):
            raise AssertionError("a row was moved though a newcomer was there")

    lift = Lift(Still(rows=3))
    lift.ride([5], [1], [5])
    lift.tick(2)
    lift.ride([6])
    lift.tick()
    assert lift.step_owners[1:] == [[1, 2, 3], [1, 4, 3]]


def test_without_newcomers_the_last_row_fills_the_hole():
    lift = Lift(CountdownEngine(rows=4))
    first, _, _, last = lift.ride([5], [1], [5], [7])
    lift.run()
    assert lift.step_owners[1:3] == [[1, 2, 3, 4], [1, 4, 3]]
    assert (lift.tokens(first), lift.tokens(last)) == ([5, 4, 3, 2, 1], [7, 6, 5, 4, 3, 2, 1])


def test_newcomers_join_in_the_middle():
    engine = CountdownEngine(rows=4)
    lift = Lift(engine)
    lift.ride([5])
    lift.tick()
    lift.ride([1])
    lift.run()
    assert engine.steps[:3] == [1, 2, 2]


def test_few_newcomers_wait_a_little_for_company(monkeypatch):
    monkeypatch.setattr(module, "HOLD_STEPS", 2)
    monkeypatch.setattr(module, "COMPANY", 3)
    engine = CountdownEngine(rows=8)
    lift = Lift(engine)
    lift.ride([20])
    lift.tick()
    assert engine.steps == [1], "nobody is held while the lift stands still"
    lift.ride([20])
    lift.tick(3)
    assert engine.steps[1:] == [1, 1, 2]
    lift.ride([20], [20], [20])
    lift.tick()
    assert engine.steps[-1] == 5, "enough for an encoder run"
    lift.ride([20], [20])
    lift.tick()
    lift.ride([20])
    lift.tick()
    assert engine.steps[-2:] == [5, 8], "enough for the rows that are free"


def test_length_limit_frees_the_row():
    lift = Lift(CountdownEngine())
    (sequence,) = lift.ride([9], max_length=2)
    lift.tick(2)
    assert (lift.tokens(sequence), lift.outcome(sequence)) == ([9, 8], Outcome.LENGTH)
    assert not lift.scheduler.busy


def test_what_is_encoded_between_two_steps_is_bounded():
    class Recording(CountdownEngine):
        def encode(self, sources, rows):
            self.runs.append([len(source) for source in sources])
            super().encode(sources, rows)

    engine = Recording(rows=8)
    engine.runs = []
    lift = Lift(engine, encode_tokens=6)
    lift.ride(*([0] * (n - 1) + [1] for n in (2, 2, 2, 9, 1)))
    lift.run()
    assert engine.runs == [[2, 2, 2], [9], [1]]
    assert sum(len(news.encode_rows) for news in lift.news) == 3


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
    assert engine.steps[1] == 1
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
    assert [7] not in engine.encoded and engine.steps == [1] * 3


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


def test_priority_goes_first_and_age_makes_up_for_it():
    lift = Lift(CountdownEngine(rows=1))
    (running,) = lift.ride([1])
    lift.tick()
    (low,) = lift.ride([1])
    (high,) = lift.ride([1], priority=1)
    lift.now += 3
    (late,) = lift.ride([1], priority=1)
    lift.run()
    started = sorted(lift.ended, key=lambda id_: lift.ended[id_].started)
    assert started == [running.id, high.id, low.id, late.id]


def test_a_wide_one_is_not_overtaken_for_ever():
    lift = Lift(CountdownEngine(rows=3))
    lift.ride([5], [9])
    (wide,) = lift.ride([3], options=Options(9, beam_size=3))
    later = lift.ride(*[[1]] * 5)
    lift.run()
    assert all(lift.ended[wide.id].started < lift.ended[one.id].started for one in later)


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


def test_a_cascade_starts_again_as_a_beam():
    lift = Lift(TableEngine(rows=4))
    options = Options(9, beam_size=4, n_best=4, cascade_margin=50.0)
    (sequence,) = lift.ride([5], options=options)
    (plain,) = lift.ride([6])
    lift.run()
    assert lift.ended[sequence.id].hypotheses == decode(options, 12, lift.engine.alone([5]))
    assert len(lift.ended[sequence.id].hypotheses) == 4
    assert lift.step_owners[0] == [sequence.id, plain.id]
    assert lift.ended[sequence.id].started == 100.0, "its wait counts once"


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


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_emptying_the_log_changes_nothing(monkeypatch, steps):
    options = [Options(40), Options(7), Options(9, beam_size=3), Options(9, sampling=Sampling(1))]

    def answers():
        lift = Lift(TableEngine(rows=5))
        sequences = [lift.ride([n, 3], options=options[n % 4], streams=n % 3 == 0)[0] for n in range(24)]
        lift.run()
        return [lift.ended[sequence.id].hypotheses for sequence in sequences], lift.progress

    before = answers()
    monkeypatch.setattr(module, "TRIM_STEPS", steps)
    assert answers() == before


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
    sequence.finish(Outcome.EOS)
    with pytest.raises(AssertionError, match="ended twice"):
        sequence.finish(Outcome.CANCELLED)
