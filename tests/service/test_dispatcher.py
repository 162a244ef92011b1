"""The door: who is let in, which engine gets whom, and that everybody who was let in hears of his end."""

import time

import pytest

from service.dispatcher import Dispatcher, Submission, express_rows
from service.errors import Draining, Overloaded
from service.hypothesis import Outcome
from service.messages import Abort, Batch, Cancel, Ended, News, Progress
from service.options import Options

FAR = time.monotonic() + 100_000


class Wire:
    """A link whose other end is the test."""

    gave_up = ""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.sent: list[object] = []

    def submit(self, batch):
        self.batches.append(batch)

    @property
    def ids(self) -> list[int]:
        """Of all that was submitted."""
        return [batch.first + number for batch in self.batches for number in range(len(batch.sources))]

    @property
    def cancelled(self) -> list[int]:
        return [id_ for message in self.sent if isinstance(message, Cancel) for id_ in message.ids]

    def send(self, message):
        self.sent.append(message)

    def end(self, *ids, outcome=Outcome.EOS, held=0.0):
        """The engine says that these have ended, so many seconds after they got their rows."""
        self.hear(News(ended=[Ended(id_, outcome, [], 1.0, 1.0, 1.0 + held) for id_ in ids]))


class Desk:
    """A dispatcher, its wires, and what it told."""

    def __init__(self, engines=1, rows=2, max_waiting=4) -> None:
        self.wires = [Wire() for _ in range(engines)]
        self.told: list[Submission] = []
        self.heard: list[Submission] = []
        self.crashes = 0
        self.dispatcher = Dispatcher(self.wires, rows, max_waiting, self._hear, self._crash)

    def _hear(self, news, ended):
        self.heard += ended

    def _crash(self):
        self.crashes += 1

    def submit(self, count=1, deadline=FAR, priority=0, streams=False, **options) -> list[Submission]:
        submissions = [
            Submission([2], Options(9, **options), deadline, self.told.append, priority, streams)
            for _ in range(count)
        ]
        self.dispatcher.submit(submissions)
        return submissions

    @property
    def load(self) -> list[int]:
        return [len(wire.ids) for wire in self.wires]


def test_a_batch_says_all_that_the_engine_needs():
    desk = Desk()
    before = time.monotonic()
    (submission,) = desk.submit(priority=-3, streams=True)
    (batch,) = desk.wires[0].batches
    assert (batch.first, batch.sources, batch.options, batch.deadline, batch.priority, batch.streams) == (
        *(submission.id, [[2]], Options(9), FAR, -3, True),
    )
    assert before <= batch.arrived <= time.monotonic()


def test_rows_first_then_the_queue_then_nothing():
    desk = Desk(rows=2, max_waiting=4)
    desk.submit(2)
    assert (desk.dispatcher.running, desk.dispatcher.waiting) == (2, 0)
    desk.submit(4)
    assert (desk.dispatcher.running, desk.dispatcher.waiting, desk.dispatcher.inside) == (2, 4, 6)
    with pytest.raises(Overloaded, match="full") as refusal:
        desk.submit(1)
    assert refusal.value.reason == "QUEUE_FULL"
    desk.wires[0].end(1)
    desk.submit(1)


def test_a_call_comes_in_whole_or_not_at_all():
    desk = Desk(rows=2, max_waiting=4)
    with pytest.raises(Overloaded):
        desk.submit(7)
    assert desk.load == [0] and desk.dispatcher.inside == 0
    desk.submit(6)


def test_a_beam_counts_for_all_of_its_rows():
    desk = Desk(rows=4, max_waiting=4)
    desk.submit(1, beam_size=3)
    assert (desk.dispatcher.running, desk.dispatcher.waiting) == (3, 0)
    desk.submit(1, beam_size=4)
    assert (desk.dispatcher.running, desk.dispatcher.waiting) == (4, 3)
    desk.wires[0].end(1)
    assert (desk.dispatcher.running, desk.dispatcher.waiting) == (4, 0)
    desk.wires[0].end(2)
    assert (desk.dispatcher.running, desk.dispatcher.waiting) == (0, 0)


def test_a_cascade_counts_for_the_row_that_it_begins_with():
    desk = Desk(rows=4, max_waiting=4)
    desk.submit(3, beam_size=4, cascade_margin=0.5)
    assert (desk.dispatcher.running, desk.dispatcher.waiting) == (3, 0)
    desk.wires[0].end(1, held=10.0)
    desk.submit(1, beam_size=4, cascade_margin=0.5, deadline=time.monotonic())  # there is a row
    desk.wires[0].end(2, 3, 4)
    assert (desk.dispatcher.running, desk.dispatcher.waiting) == (0, 0)


def test_who_starts_again_passes_the_door_and_keeps_his_place_in_time():
    desk = Desk(rows=1, max_waiting=0)
    (first,) = desk.submit(1)
    desk.wires[0].end(1, outcome=Outcome.DEADLINE)
    desk.submit(1)
    again = Submission([2], Options(9), FAR, desk.told.append)
    with pytest.raises(Overloaded):
        desk.dispatcher.submit([again])
    desk.dispatcher.submit_again(again, first)
    assert desk.wires[0].batches[-1].arrived == again.arrived == first.arrived
    desk.dispatcher.abort()
    with pytest.raises(Draining):
        desk.dispatcher.submit_again(again, first)


def test_the_queue_counts_sequences_however_wide():
    """So a call that is within the limits is let in where nobody else is."""
    desk = Desk(rows=4, max_waiting=4)
    with pytest.raises(Overloaded):
        desk.submit(9, beam_size=4)
    desk.submit(8, beam_size=4)
    with pytest.raises(Overloaded):
        desk.submit(1)


def test_a_deadline_that_the_queue_would_outlast_is_refused_at_the_door():
    desk = Desk(rows=1, max_waiting=100)
    desk.submit(1)
    desk.wires[0].end(1, held=10.0)  # ten seconds each, so far
    desk.submit(2)
    with pytest.raises(Overloaded, match="longer than the deadline") as refusal:
        desk.submit(1, deadline=time.monotonic() + 19)
    assert refusal.value.reason == "DEADLINE_UNREACHABLE"
    assert refusal.value.retry_seconds == pytest.approx(20)
    desk.submit(1, deadline=time.monotonic() + 21)


def test_an_idle_lift_refuses_no_deadline():
    desk = Desk(rows=1, max_waiting=100)
    desk.submit(1)
    desk.wires[0].end(1, held=10.0)
    desk.submit(1, deadline=time.monotonic() + 0.01)


@pytest.mark.parametrize(("engines", "rows", "beam_size"), [(1, 2, 2), (2, 1, 1)], ids=["beams", "engines"])
def test_the_wait_is_counted_in_rows_of_all_engines(engines, rows, beam_size):
    """A beam that ends frees all of its rows, and two engines free twice as many: two in ten seconds."""
    desk = Desk(engines, rows, max_waiting=100)
    desk.submit(engines, beam_size=beam_size)
    for wire in desk.wires:
        wire.end(*wire.ids, held=10.0)
    desk.submit(2 * engines, beam_size=beam_size)  # two have rows, two wait: it is the third that frees ours
    with pytest.raises(Overloaded) as refusal:
        desk.submit(1, deadline=time.monotonic())
    assert refusal.value.retry_seconds == pytest.approx(15, rel=0.01)


def test_each_beam_of_a_call_counts_for_its_rows_where_the_next_one_goes():
    desk = Desk(engines=2, rows=8, max_waiting=100)
    desk.submit(1, beam_size=4)
    options = Options(9, beam_size=3)  # of the whole call
    desk.dispatcher.submit([Submission([2], options, FAR, desk.told.append) for _ in range(3)])
    assert desk.load == [2, 2]  # beside 4 rows there are 0, 3 and then 6


def test_those_with_priority_go_where_fewest_others_have_it():
    desk = Desk(engines=2, rows=8, max_waiting=100)
    desk.submit(5)
    assert desk.load == [3, 2]
    desk.submit(1, priority=1)
    assert desk.load == [4, 2]
    assert desk.dispatcher.rows == 2 * (8 + 8)


def test_a_wait_is_held_against_the_deadline_itself():
    desk = Desk(rows=1, max_waiting=100)
    desk.submit(1)
    desk.wires[0].end(1, held=10.0)
    desk.submit(1)
    with pytest.raises(Overloaded) as refusal:
        desk.submit(1, deadline=time.monotonic() + 9.5)
    assert refusal.value.reason == "DEADLINE_UNREACHABLE"
    desk.submit(1, deadline=time.monotonic() + 11)


def test_those_with_priority_have_rows_of_their_own():
    """A full house of others neither keeps them out nor makes their wait look long."""
    desk = Desk(rows=2, max_waiting=4)
    desk.submit(1)
    desk.wires[0].end(1, held=10.0)
    desk.submit(6)
    with pytest.raises(Overloaded):
        desk.submit(1)
    desk.submit(1, priority=1, deadline=time.monotonic() + 1)
    assert (desk.dispatcher.running, desk.dispatcher.waiting) == (3, 4)
    desk.submit(5, priority=2)
    assert (desk.dispatcher.running, desk.dispatcher.waiting) == (4, 8)
    with pytest.raises(Overloaded, match="full"):
        desk.submit(1, priority=1)
    desk.wires[0].end(*(id_ for id_ in desk.wires[0].ids if id_ > 1))
    assert (desk.dispatcher.running, desk.dispatcher.waiting, desk.dispatcher.inside) == (0, 0, 0)


def test_those_with_priority_wait_for_each_other():
    desk = Desk(rows=2, max_waiting=100)
    desk.submit(1, priority=1)
    desk.wires[0].end(1, held=10.0)
    desk.submit(3, priority=1)
    with pytest.raises(Overloaded, match="longer than the deadline") as refusal:
        desk.submit(1, priority=1, deadline=time.monotonic() + 9)
    assert refusal.value.retry_seconds == pytest.approx(10)
    desk.submit(1, priority=2, deadline=time.monotonic() + 9)


def test_work_of_lower_priority_keeps_nobody_out():
    desk = Desk(rows=1, max_waiting=4)
    desk.submit(1)
    desk.wires[0].end(1, held=10.0)
    desk.submit(5, priority=-10)
    with pytest.raises(Overloaded, match="full"):
        desk.submit(1, priority=-10)
    with pytest.raises(Overloaded, match="longer than the deadline"):
        desk.submit(1, deadline=time.monotonic() + 9)
    desk.submit(1, deadline=time.monotonic() + 11)


@pytest.mark.parametrize(("rows", "express"), [(2, 2), (32, 32), (4096, 32)])
def test_the_express_lane_is_a_small_one(rows, express):
    assert express_rows(rows) == express


def test_the_less_loaded_engine_gets_the_next():
    desk = Desk(engines=2, rows=8)
    desk.submit(1, beam_size=4)
    desk.submit(5)
    assert desk.load == [2, 4]
    ids = [id_ for wire in desk.wires for id_ in wire.ids]
    assert sorted(ids) == [1, 2, 3, 4, 5, 6], "each once, under a name of its own"
    desk.wires[0].end(*desk.wires[0].ids)
    before = desk.load
    desk.submit(3)
    assert [after - b for after, b in zip(desk.load, before, strict=True)] == [3, 0]


def test_cancel_goes_to_the_engine_that_has_it_and_the_ended_are_left_alone():
    desk = Desk(engines=2, rows=8)
    first, second, third = desk.submit(3)
    desk.wires[0].end(first.id)
    desk.dispatcher.cancel([first, second, Submission([2], Options(9), FAR, desk.told.append)])
    assert [wire.cancelled for wire in desk.wires] == [[], [second.id]]
    assert desk.dispatcher.inside == 2, "inside until the engine says so"
    desk.wires[1].end(second.id, outcome=Outcome.CANCELLED)
    assert second.ended.outcome is Outcome.CANCELLED and third.ended is None


def test_everybody_hears_of_his_end_once():
    desk = Desk()
    first, second = desk.submit(2)
    desk.wires[0].end(second.id)
    assert desk.told == desk.heard == [second] and first.ended is None
    desk.wires[0].end(first.id, outcome=Outcome.FAILED)
    assert desk.told == [second, first] and first.ended.outcome is Outcome.FAILED
    assert desk.dispatcher.inside == 0


def test_a_stream_hears_of_its_tokens_as_they_come():
    desk = Desk()
    (stream,) = desk.submit(streams=True)
    desk.wires[0].hear(News(progress=[Progress(stream.id, [4, 5], [-0.1, -0.2])]))
    desk.wires[0].hear(News(progress=[Progress(stream.id, [6], [-0.3])]))
    assert (stream.tokens, stream.scores) == ([4, 5, 6], [-0.1, -0.2, -0.3])
    assert desk.told == [stream, stream] and stream.ended is None and desk.heard == []


def deaf(_: Submission) -> None:
    raise RuntimeError("cannot hear")


def news_for_one_who_is_deaf(desk: Desk) -> tuple[Submission, list[Submission]]:
    """He streams before and beside the others; then all of them end."""
    one = Submission([2], Options(9), FAR, deaf, streams=True)
    desk.dispatcher.submit([one])
    others = desk.submit(2, streams=True)
    (wire,) = desk.wires
    wire.hear(News(progress=[Progress(id_, [4], [-0.1]) for id_ in (one.id, *(o.id for o in others))]))
    wire.end(one.id, outcome=Outcome.CANCELLED)
    wire.end(*(other.id for other in others))
    return one, others


def test_who_cannot_hear_is_cut_off_and_the_others_hear(caplog):
    desk = Desk(rows=3)
    one, others = news_for_one_who_is_deaf(desk)
    assert desk.wires[0].cancelled == [one.id] and one.ended.outcome is Outcome.CANCELLED
    assert desk.told == 2 * others and all(other.ended.outcome is Outcome.EOS for other in others)
    assert desk.heard == [one, *others] and desk.dispatcher.inside == desk.dispatcher.running == 0
    assert all(record.error_id and record.exc_info for record in caplog.records) and len(caplog.records) == 2


def test_one_who_takes_the_link_down_is_seen(monkeypatch):
    """Negative control."""
    monkeypatch.setattr(Dispatcher, "_tell", lambda _, submission: submission.on_news(submission))
    with pytest.raises(RuntimeError, match="cannot hear"):
        news_for_one_who_is_deaf(Desk(rows=3))


def test_abort_lets_nobody_in_and_tells_every_engine():
    desk = Desk(engines=2)
    (inside,) = desk.submit(1)
    desk.dispatcher.abort()
    assert [wire.sent for wire in desk.wires] == [[Abort()]] * 2
    with pytest.raises(Draining):
        desk.submit(1)
    desk.wires[0].end(inside.id, outcome=Outcome.DRAINED)
    assert inside.ended.outcome is Outcome.DRAINED


@pytest.mark.parametrize(("why", "outcome"), [("", Outcome.FAILED), ("its device is lost", Outcome.LOST)])
def test_an_engine_that_is_lost_answers_everybody_in_it_and_nobody_else(why, outcome):
    desk = Desk(engines=2, rows=8)
    lost, other, also_lost = desk.submit(3)
    desk.wires[0].gave_up = why
    desk.wires[0].lost()
    assert {s.ended.outcome for s in (lost, also_lost)} == {outcome}
    assert sorted(s.id for s in desk.told) == [lost.id, also_lost.id]
    assert desk.crashes == 1 and other.ended is None
    with pytest.raises(Draining):
        desk.submit(1)
    desk.wires[1].end(other.id)
    assert other.ended.outcome is Outcome.EOS and desk.dispatcher.inside == 0


def test_an_engine_that_goes_on_is_not_lost():
    """Negative control."""
    desk = Desk()
    desk.submit(1)
    desk.wires[0].end(1)
    assert desk.crashes == 0
    desk.submit(1)
