"""How full a lane is, and how long a wait there will be."""

import pytest

from service.load import Load


def test_rows_are_in_use_or_wanted():
    load = Load(rows=4)
    load.enter(0, sequences=2, rows=6)
    assert (load.running, load.waiting, load.inside) == (4, 2, 2)
    load.leave(0, rows=3, held_seconds=1.0)
    assert (load.running, load.waiting, load.inside) == (3, 0, 1)


def test_a_wait_follows_from_how_long_rows_were_held_lately():
    load = Load(rows=2)
    load.enter(0, 5, 5)
    assert load.seconds_until_a_row(0) == 0, "nobody can tell yet"
    for _ in range(100):
        load.enter(0, 1, 1)
        load.leave(0, 1, held_seconds=1.0)
    assert load.seconds_until_a_row(0) == pytest.approx(
        2.0
    )  # it is the fourth that is freed, of two a second
    for _ in range(300):
        load.enter(0, 1, 1)
        load.leave(0, 1, held_seconds=0.1)
    assert load.seconds_until_a_row(0) == pytest.approx(0.2, rel=0.5), "what was long ago counts less"


def test_who_never_had_a_row_says_nothing_of_how_long_they_are_held():
    load = Load(rows=1)
    for held in (3.0, 0.0):
        load.enter(0, 1, 1)
        load.leave(0, 1, held)
    load.enter(0, 1, 1)
    assert load.seconds_until_a_row(0) == pytest.approx(3.0)


def test_few_in_many_rows_do_not_make_the_lane_look_slow():
    """One at a time, a second each; a hundred rows free a hundred a second."""
    load = Load(rows=100)
    for _ in range(50):
        load.enter(0, 1, 1)
        load.leave(0, 1, 1.0)
    load.enter(0, 200, 200)
    assert load.seconds_until_a_row(0) == pytest.approx(1.01)


def test_lower_priorities_are_no_queue():
    load = Load(rows=2)
    load.enter(0, 1, 1)
    load.leave(0, 1, 10.0)
    load.enter(-5, 6, 6)
    load.enter(1, 3, 3)
    assert load.seconds_until_a_row(-5) == pytest.approx(40)
    assert load.seconds_until_a_row(0) == pytest.approx(10)
    assert load.seconds_until_a_row(2) == pytest.approx(5), "until the next row is free"
    assert not load.has_room(-5, 1, max_waiting=7)
    assert load.has_room(0, 6, max_waiting=7) and not load.has_room(0, 7, max_waiting=7)
