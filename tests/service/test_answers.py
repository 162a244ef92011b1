"""Equal inputs share a flight and answers are kept, exactly; nobody suffers from sharing."""

import gc
import time

import pytest

from service.answers import ENTRY_BYTES, Answers, Caller
from tests.service.desk import KEY, LATER, Desk, hang_up, key, settle


async def test_equal_inputs_in_flight_share_one_sequence_and_one_answer():
    desk = Desk()
    boarded = [desk.board(KEY) for _ in range(5)]
    assert desk.started == 1
    flight = boarded[0][1][0]
    desk.answers.land(flight, "answer", 10)
    for _, flights, task in boarded:
        await task
        assert [flight.answer for flight in flights] == ["answer"]
    assert (desk.answers.shared, desk.answers.hits) == (4, 0)


async def test_a_finished_answer_is_kept():
    desk = Desk()
    _, (flight,), task = desk.board(KEY)
    desk.answers.land(flight, "answer", 10)
    await task
    caller, (kept,), task = desk.board(KEY)
    assert kept.answer == "answer"
    assert not caller.leads
    await task
    assert (desk.answers.shared, desk.answers.hits) == (0, 1)
    assert (len(desk.answers), desk.answers.size_bytes) == (1, 10 + ENTRY_BYTES)


@pytest.mark.parametrize(
    "other",
    [
        KEY._replace(bundle_digest="other"),
        KEY._replace(profile="int8"),
        KEY._replace(source=(1, 2)),
        KEY._replace(options="beam"),
        None,
    ],
)
async def test_whatever_decides_an_answer_tells_inputs_apart(other):
    desk = Desk()
    desk.board(KEY)
    _, (flight,), _ = desk.board(other)
    assert desk.started == 2, "in flight"
    desk.answers.land(flight, "other", 10)
    desk.answers.land(desk.board(KEY)[1][0], "answer", 10)
    assert desk.board(KEY)[1][0].answer == "answer"
    assert desk.board(other)[1][0].answer == (None if other is None else "other")


async def test_inputs_without_a_key_are_never_shared():
    desk = Desk()
    flights = [desk.board(None)[1][0] for _ in range(2)]
    for flight in flights:
        desk.answers.land(flight, "answer", 10)
    assert (desk.started, len(desk.answers)) == (2, 0)


async def test_one_call_may_ask_the_same_twice():
    desk = Desk()
    caller, flights, task = desk.board(KEY, key(2), KEY)
    assert [flight.sequence for flight in flights] == [1, 2, 1]
    desk.answers.land(flights[0], "one", 10)
    await settle()
    assert not task.done()
    desk.answers.land(flights[1], "two", 10)
    await task
    assert [flight.answer for flight in flights] == ["one", "two", "one"]
    assert len(caller.leads) == 2


async def test_the_least_recently_used_goes_first():
    desk = Desk(max_entries=2)
    for number in (1, 2):
        desk.answers.land(desk.board(key(number))[1][0], number, 10)
    desk.board(key(1))  # used again
    desk.answers.land(desk.board(key(3))[1][0], 3, 10)
    assert [desk.board(key(number))[1][0].answer for number in (1, 3, 2)] == [1, 3, None]


async def test_kept_answers_have_a_size_limit():
    desk = Desk(max_bytes=3 * ENTRY_BYTES)
    for number in range(9):
        desk.answers.land(desk.board(key(number))[1][0], number, number)
        assert desk.answers.size_bytes <= 3 * ENTRY_BYTES
    assert len(desk.answers) == 2
    desk.answers.land(desk.board(key(10))[1][0], "too big", 3 * ENTRY_BYTES)
    assert len(desk.answers) == 2, "one that could never fit drives nobody out"


async def test_the_same_answer_twice_counts_once():
    """Two flights of one key, because the second could not join."""
    desk = Desk()
    flights = [desk.board(KEY, priority=priority)[1][0] for priority in (0, 1)]
    for flight in flights:
        desk.answers.land(flight, "answer", 10)
    assert (len(desk.answers), desk.answers.size_bytes) == (1, 10 + ENTRY_BYTES)


@pytest.mark.parametrize(("share", "started"), [(True, 1), (False, 2)])
async def test_nothing_kept_and_sharing_are_apart(share, started):
    desk = Desk(max_entries=0, share=share)
    flights = [desk.board(KEY)[1][0] for _ in range(2)]
    assert desk.started == started
    for flight in dict.fromkeys(flights):
        desk.answers.land(flight, "answer", 10)
    desk.board(KEY)
    assert desk.started == started + 1
    assert desk.answers.hits == len(desk.answers) == 0


async def test_failures_are_shared_but_not_kept():
    desk = Desk()
    boarded = [desk.board(KEY) for _ in range(3)]
    desk.answers.fail(boarded[0][1][0], "failed")
    for _, (flight,), task in boarded:
        await task
        assert flight.answer == "failed"
    assert desk.board(KEY)[1][0].answer is None
    assert desk.started == 2


async def test_the_leader_may_hang_up():
    desk = Desk()
    _, _, leader = desk.board(KEY)
    _, (flight,), follower = desk.board(KEY)
    await hang_up(leader)
    assert desk.cancelled == []
    assert desk.board(KEY)[1][0] is flight, "others may still join"
    desk.answers.land(flight, "answer", 10)
    await follower
    assert flight.answer == "answer"


async def test_when_all_have_left_the_sequence_is_cancelled_once():
    desk = Desk()
    _, (flight,), leader = desk.board(KEY)
    _, _, follower = desk.board(KEY)
    await hang_up(follower)
    assert desk.cancelled == []
    await hang_up(leader)
    assert desk.cancelled == [1]
    assert desk.board(KEY)[1][0].sequence == 2, "nobody joins what is being cancelled"
    desk.answers.fail(flight, "cancelled")  # its end comes in later
    assert desk.board(KEY)[1][0].sequence == 2
    assert desk.cancelled == [1]


async def test_whoever_leaves_lets_go_of_all_his_inputs():
    desk = Desk()
    _, flights, task = desk.board(key(1), key(2), key(3), key(1))
    _, _, other = desk.board(key(2))
    desk.answers.land(flights[2], "three", 10)
    await hang_up(task)
    assert desk.cancelled == [1]
    desk.answers.land(flights[1], "two", 10)
    await other


async def test_flights_that_were_refused_are_gone():
    desk = Desk()
    caller = Caller(LATER + 10)
    desk.answers.board(KEY, caller, LATER)
    desk.answers.leave(caller)  # no sequence was started
    assert desk.cancelled == []
    assert desk.board(KEY)[1][0].sequence == 1


async def test_a_follower_whose_deadline_comes_first_leaves_alone():
    desk = Desk()
    _, (flight,), leader = desk.board(KEY)
    caller, _, follower = desk.board(KEY, deadline=time.monotonic())  # his timer goes off at once
    assert not caller.leads
    with pytest.raises(TimeoutError):
        await follower
    desk.answers.land(flight, "answer", 10)
    await leader


async def test_a_flight_that_expires_starts_again_for_those_who_have_time():
    desk = Desk()
    _, (flight,), leader = desk.board(KEY, deadline=LATER + 10)
    _, _, equal = desk.board(KEY, deadline=LATER + 10)
    boarded = [desk.board(KEY, deadline=LATER + 10 + n, now=LATER + n) for n in (1, 2)]
    assert desk.answers.expire(flight, LATER + 10)
    assert (flight.deadline, flight.seconds) == (LATER + 12, 2)
    for task in (leader, equal):
        with pytest.raises(TimeoutError):
            await task
    desk.start(flight)
    desk.answers.land(flight, "answer", 10)
    for _, flights, task in boarded:
        await task
        assert flights[0].answer == "answer"
    assert desk.cancelled == []


async def test_a_flight_that_expires_for_all_is_over():
    desk = Desk()
    _, (flight,), task = desk.board(KEY)
    assert not desk.answers.expire(flight, LATER + 10)
    with pytest.raises(TimeoutError):
        await task
    assert desk.board(KEY)[1][0] is not flight
    assert desk.cancelled == []


@pytest.mark.parametrize(
    ("deadline", "priority", "joins"),
    [
        (LATER + 14, 0, True),  # as much time as the leader had
        (LATER + 14.9, 0, True),  # about
        (LATER + 15.1, 0, False),
        (LATER + 5, 0, True),
        (LATER + 14, -1, True),
        (LATER + 14, 1, False),
    ],
)
async def test_nobody_joins_a_flight_that_is_given_less_than_he(deadline, priority, joins):
    desk = Desk()
    desk.board(KEY, deadline=LATER + 10)
    caller, _, _ = desk.board(KEY, deadline=deadline, priority=priority, now=LATER + 4)
    assert bool(caller.leads) is not joins
    newest, _, _ = desk.board(KEY, deadline=deadline, priority=priority, now=LATER + 4)
    assert not newest.leads, "the next one joins either"


class Knows:
    """A sequence that tells its flight how it ended."""

    def __init__(self, flight) -> None:
        self.flight = flight


async def garbage(end) -> int:
    """Objects that only the collector can free, after a call whose flight was ended by `end`."""
    answers = Answers(lambda _: None, 0, 0)
    gc.collect()
    gc.disable()
    try:
        caller = Caller(time.monotonic() + 10)
        flight = answers.board(None, caller, 0.0)
        flight.sequence = Knows(flight)
        end(answers, caller, flight)
        del caller, flight
        return gc.collect()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "end",
    [
        lambda answers, _, flight: answers.fail(flight, "answer"),
        lambda answers, _, flight: answers.land(flight, "answer", 10),
        lambda answers, caller, _: answers.leave(caller),
    ],
    ids=["fails", "lands", "is left"],
)
async def test_a_flight_that_ended_leaves_nothing_to_the_collector(end):
    assert await garbage(end) == 0


async def test_a_flight_that_keeps_its_sequence_is_found_out():
    """The negative control of the test above."""
    assert await garbage(lambda *_: None) > 0
