"""Who may hurry a server that stops: people as they like, engines that end by themselves not to its end."""

from service.lifecycle import CRASHED, Stop


async def test_engines_that_end_one_after_the_other_leave_the_others_their_time():
    stop = Stop()
    for _ in range(3):
        stop.crashed()
    assert stop.asked.is_set() and stop.hurried.is_set() and not stop.forced.is_set()
    assert stop.status == CRASHED


async def test_a_person_may_still_force_it():
    """And a crash after his first signal does not."""
    stop = Stop()
    stop.hurry()
    stop.crashed()
    assert not stop.forced.is_set()
    stop.hurry()
    assert stop.forced.is_set()
