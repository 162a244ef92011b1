"""Rows are joined and left at any step; nobody waits for the slowest."""

import pytest

from service import scheduler as module
from service.decoding.search import search_for
from service.hypothesis import Hypothesis, Outcome
from service.lengths import Lengths
from service.options import Options, Sampling
from tests.service.conftest import CountdownEngine
from tests.service.decoding_cases import decode
from tests.service.lift import Lift, TableEngine

pytestmark = pytest.mark.usefixtures("nobody_is_held")


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
    assert engine.counts[:6] == [2] * 6  # never an empty row while somebody waited


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


def test_news_say_how_long_each_run_took():
    """What is left of a tick is overhead; of a clock that stands still, what the runs took is missing."""

    class Timed(CountdownEngine):
        run_seconds = 0.25

        def steps(self, count, most, short):
            return [self.step(count) for _ in range(min(most, 3))]

    lift = Lift(Timed(rows=4))
    lift.ride([9], [9])
    lift.tick()
    first = lift.news[-1]
    assert (first.encode_rows, first.encode_seconds) == ([2], [0.25])
    assert sum(first.step_seconds) == pytest.approx(0.25) and set(first.step_rows) == {2}
    assert first.overhead_seconds == [pytest.approx(-0.5)]
    lift.tick()
    second = lift.news[-1]
    assert len(second.step_seconds) == len(second.step_rows) == 3, "steps in one go"
    assert sum(second.step_seconds) == pytest.approx(0.25)
    assert second.overhead_seconds == [pytest.approx(-0.25)] and not second.encode_rows


def test_newcomers_join_in_the_middle():
    engine = CountdownEngine(rows=4)
    lift = Lift(engine)
    lift.ride([5])
    lift.tick()
    lift.ride([1])
    lift.run()
    assert engine.counts[:3] == [1, 2, 2]


def test_few_newcomers_wait_a_little_for_company(monkeypatch):
    monkeypatch.setattr(module, "HOLD_STEPS", 2)
    monkeypatch.setattr(module, "COMPANY", 3)
    engine = CountdownEngine(rows=8)
    lift = Lift(engine)
    lift.ride([20])
    lift.tick()
    assert engine.counts == [1], "nobody is held while the lift stands still"
    lift.ride([20])
    lift.tick(3)
    assert engine.counts[1:] == [1, 1, 2]
    lift.ride([20], [20], [20])
    lift.tick()
    assert engine.counts[-1] == 5, "enough for an encoder run"
    lift.ride([20], [20])
    lift.tick()
    lift.ride([20])
    lift.tick()
    assert engine.counts[-2:] == [5, 8], "enough for the rows that are free"


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


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_emptying_the_log_changes_nothing(monkeypatch, steps):
    options = [Options(40), Options(7), Options(9, beam_size=3), Options(9, sampling=Sampling(1))]

    def answers():
        lift = Lift(TableEngine(rows=5))
        sequences = [lift.ride([n, 3], options=options[n % 4], streams=n % 3 == 0)[0] for n in range(24)]
        lift.run()
        return [lift.ended[sequence.id].hypotheses for sequence in sequences], lift.progress

    before = answers()
    monkeypatch.setattr("service.rows.TRIM_STEPS", steps)
    assert answers() == before


def hypotheses_of(options: Options) -> list[Hypothesis]:
    """What ten sources get, beside plain neighbours who come and go."""
    lift = Lift(TableEngine(rows=8))
    lift.ride(*([n, n] for n in range(20)), options=Options(30))
    asked = lift.ride(*([n, n, n] for n in range(10)), options=options)
    lift.run()
    return [lift.ended[sequence.id].hypotheses[0] for sequence in asked]


def test_a_least_length_needs_no_search_to_be_kept():
    plain, searched = Options(30, min_length=9), Options(30, min_length=9, loop_repeats=30)
    assert search_for(plain, 12) is None and search_for(searched, 12) is not None
    assert hypotheses_of(plain) == hypotheses_of(searched)
    assert min(len(h.tokens) for h in hypotheses_of(Options(30))) < 9  # who would have ended earlier


def alone(source: list[int], options: Options) -> Hypothesis:
    """What a source gets on an idle engine, which takes several steps in one go."""
    lift = Lift(TableEngine(rows=2))
    (sequence,) = lift.ride(source, options=options)
    lift.run()
    return lift.ended[sequence.id].hypotheses[0]


def test_several_steps_in_one_go_end_with_the_least_length():
    """The first <E> that may come is not put off with those before it."""
    plain, searched = Options(30, min_length=3), Options(30, min_length=3, loop_repeats=30)
    for n in range(40):
        assert alone([n, n], plain) == alone([n, n], searched)


def test_a_least_length_that_is_not_kept_is_found_out(monkeypatch):
    """The negative control of the test above."""
    short_rows = Lengths.short_rows
    monkeypatch.setattr(Lengths, "short_rows", lambda *those: short_rows(*those)[:0])
    assert hypotheses_of(Options(30, min_length=9)) != hypotheses_of(
        Options(30, min_length=9, loop_repeats=30)
    )
