"""Who is next: checked against a list that is sorted anew each time; and that nobody starves."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import waiting
from service.waiting import AGING_SECONDS, FEW, LONGEST_SECONDS, Waiting


@dataclass(eq=False)
class Chair:
    """Who waits."""

    priority: int = 0
    deadline: float = math.inf
    arrived: float = 0.0


class SortedList:
    """The slow obvious queue: every rule of the module's docstring, by sorting."""

    def __init__(self, longest: float, aging: float) -> None:
        self.longest, self.aging = longest, aging
        self.waiting: list[Chair] = []

    def pop(self) -> Chair:
        first = min(self.waiting, key=self.key)  # the first of equals
        self.waiting.remove(first)
        return first

    def key(self, chair: Chair) -> float:
        return min(chair.deadline, chair.arrived + self.longest) - chair.priority * self.aging


ticks = st.integers(0, 8).map(float)  # few values: many ties
operations = st.one_of(
    st.tuples(st.just("push"), st.integers(-2, 2), ticks, ticks),
    st.tuples(st.just("pop"), st.booleans()),
    st.tuples(st.just("discard"), st.integers(0, 1000)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(operations, max_size=80), ticks, ticks)
def test_it_does_what_a_sorted_list_does(steps, longest, aging):
    queue, oracle = Waiting[Chair](longest, aging), SortedList(longest, aging)
    gone: list[Chair] = []
    for name, *values in steps:
        if name == "push":
            priority, arrived, patience = values
            chair = Chair(priority, arrived + patience, arrived)
            queue.push(chair)
            oracle.waiting.append(chair)
        elif name == "pop" and oracle.waiting:
            assert not values[0] or queue.peek() is min(oracle.waiting, key=oracle.key)
            gone.append(oracle.pop())
            assert queue.pop() is gone[-1]
        elif name == "discard" and oracle.waiting:
            gone.append(oracle.waiting.pop(values[0] % len(oracle.waiting)))
            assert queue.discard(gone[-1])
        assert list(queue) == oracle.waiting
        assert len(queue) == len(oracle.waiting)
        assert not any(queue.discard(chair) for chair in gone)
    assert [queue.pop() for _ in range(len(queue))] == [oracle.pop() for _ in range(len(oracle.waiting))]


def order(*chairs: Chair) -> list[int]:
    """The places in the argument list, in the order in which the queue lets them go."""
    queue = Waiting[Chair]()
    for chair in chairs:
        queue.push(chair)
    return [chairs.index(queue.pop()) for _ in chairs]


def test_priority_comes_first_then_the_earliest_deadline():
    assert order(Chair(0, 0.1), Chair(1, 0.9), Chair(1, 0.5), Chair(-1, 0.01)) == [2, 1, 0, 3]


def test_who_came_first_goes_first_where_nothing_else_decides():
    assert order(*(Chair(arrived=1.0) for _ in range(5))) == [0, 1, 2, 3, 4]
    assert order(*(Chair(deadline=30 + n, arrived=n / 9) for n in (2, 0, 1))) == [1, 2, 0]


@pytest.mark.parametrize("levels", [1, 2, 20])
def test_priority_is_strict_among_those_who_come_close_together(levels):
    apart = levels * AGING_SECONDS - LONGEST_SECONDS - 0.001
    low = Chair(0, deadline=0.0, arrived=0.0)  # as urgent as can be
    assert order(low, Chair(levels, arrived=apart)) == [1, 0]


def served_after(seconds: float, levels: int, aging_seconds: float) -> float | None:
    """When a sequence goes that came at 0, among newcomers with the better priority; None: it has not.

    Every hundredth of a second one comes, urgent, and one goes; so there is always a newcomer to prefer.
    """
    queue = Waiting[Chair](aging_seconds=aging_seconds)
    poor = Chair(0)
    queue.push(poor)
    for tick in range(round(100 * seconds)):
        queue.push(Chair(levels, deadline=tick / 100, arrived=tick / 100))
        if queue.pop() is poor:
            return tick / 100
    return None


@pytest.mark.parametrize("levels", [1, 3, 20])
def test_nobody_starves(levels):
    bound = LONGEST_SECONDS + levels * AGING_SECONDS
    served = served_after(bound + 1, levels, AGING_SECONDS)
    assert served is not None
    assert bound - 0.02 <= served <= bound + 0.02  # neither later, nor so early that priority means nothing


def test_without_aging_the_flood_starves_him():
    """Negative control."""
    assert served_after(200, 1, math.inf) is None


def test_short_deadlines_do_not_starve_long_ones():
    assert served_after(3, 0, AGING_SECONDS) == pytest.approx(LONGEST_SECONDS, abs=0.02)


def most_entries() -> int:
    """The longest that the heap gets while 1000 come and leave behind one who stays at the top."""
    queue = Waiting[Chair]()
    queue.push(Chair(10, deadline=math.inf))
    most = 0
    for number in range(1, 1001):
        chair = Chair(deadline=float(number))
        queue.push(chair)
        queue.discard(chair)
        most = max(most, len(queue._by_key))
    return most


def test_those_who_left_do_not_pile_up():
    assert most_entries() <= 2 * 2 + FEW + 1


def test_the_detector_sees_them_pile_up(monkeypatch):
    """Negative control: nothing cleans up."""
    monkeypatch.setattr(waiting, "FEW", 10**9)
    assert most_entries() > 1000


def test_misuse_is_noticed():
    queue, chair = Waiting[Chair](), Chair()
    with pytest.raises(AssertionError, match="nobody waits"):
        queue.pop()
    queue.push(chair)
    with pytest.raises(AssertionError, match="waits already"):
        queue.push(chair)
