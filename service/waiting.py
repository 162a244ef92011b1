"""The queue of sequences that have no row yet: who is next.

Knows nothing of rows, engines or the clock. Used by one thread.

Who is next: the sequence with the smallest key

    key = due - priority * aging_seconds,    due = min(deadline, arrived + longest_seconds)

and of equal keys the one that came first. The key is computed once and never changes while a sequence waits,
so that a heap can hold it; age needs no term of its own, because whoever comes later is due later:

- Nobody starves. A newcomer is due no earlier than he arrived. So nobody goes before a sequence that waits,
  if he is at most `levels` priorities higher and comes more than longest_seconds + levels * aging_seconds
  after it. That bounds who may overtake; how long the wait is depends on when rows are free.
- Priority first, then the earliest deadline. Of two sequences the one with the higher priority goes first
  wherever their `due` differ by less than aging_seconds a level, whatever their deadlines. Two that came
  within aging_seconds - longest_seconds of each other are always that close.
- Deadlines more than longest_seconds off count as just that far: those who have time are served as they came,
  and short deadlines cannot hold up long ones for ever.

The defaults: of two that are one level apart and come within 0.25 s of each other, the higher goes first, two
levels 1.5 s, and so on; even twenty levels apart, nobody who comes 26 s later goes first.
"""

import heapq
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Generic, Protocol, TypeVar

LONGEST_SECONDS = 1.0
AGING_SECONDS = 1.25
FEW = 16  # so many dead entries are not worth a clean-up


class Queued(Protocol):
    """What the queue reads of a sequence, once, when it is pushed. Seconds of the monotonic clock."""

    priority: int
    deadline: float
    arrived: float


Q = TypeVar("Q", bound=Queued)
Heap = list[tuple[float, int]]


class Waiting(Generic[Q]):
    """Sequences by key. Each operation takes O(log n), spread over all of them.

    A sequence is known by identity. One that leaves stays in the heap as a dead number until it comes to the
    top, or until more than half of the heap is dead.
    """

    def __init__(
        self, longest_seconds: float = LONGEST_SECONDS, aging_seconds: float = AGING_SECONDS
    ) -> None:
        self._longest_seconds = longest_seconds
        self._aging_seconds = aging_seconds
        self._next_number = count()
        self._numbers: dict[int, int] = {}  # by the identity of a sequence
        self._sequences: dict[int, Q] = {}  # by number: in order of arrival
        self._by_key: Heap = []  # (key, number)

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Q]:
        """In order of arrival. The queue must not change meanwhile."""
        return iter(self._sequences.values())

    def push(self, sequence: Q) -> None:
        """Lets a sequence wait."""
        assert id(sequence) not in self._numbers, "it waits already"
        number = next(self._next_number)
        key = min(sequence.deadline, sequence.arrived + self._longest_seconds)
        if sequence.priority:  # 0 * inf is not a number
            key -= sequence.priority * self._aging_seconds
        self._numbers[id(sequence)] = number
        self._sequences[number] = sequence
        heapq.heappush(self._by_key, (key, number))

    def peek(self) -> Q:
        """Who is next. Somebody must be waiting."""
        return self._sequences[self._top()]

    def pop(self) -> Q:
        """Takes out who is next. Somebody must be waiting."""
        return self._remove(self._top())

    def discard(self, sequence: Q) -> bool:
        """Takes out a sequence whose caller left. False: it was not waiting."""
        number = self._numbers.get(id(sequence))
        if number is None:
            return False
        self._remove(number)
        return True

    def _top(self) -> int:
        """The number of the first that is alive."""
        assert self._sequences, "nobody waits"
        heap = self._by_key
        while heap[0][1] not in self._sequences:
            heapq.heappop(heap)
        return heap[0][1]

    def _remove(self, number: int) -> Q:
        sequence = self._sequences.pop(number)
        del self._numbers[id(sequence)]
        forget_dead(self._by_key, self._sequences)
        return sequence


def forget_dead(heap: Heap, alive: Mapping[int, object]) -> None:
    """Takes the dead out of a heap, once they are more than half of it."""
    if len(heap) > 2 * len(alive) + FEW:
        heap[:] = [entry for entry in heap if entry[1] in alive]
        heapq.heapify(heap)
