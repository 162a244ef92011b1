"""Answers that are there already: equal inputs in flight share one sequence, and finished answers are kept.

Knows nothing of text, sequences, transport or metrics. Legal only because an answer does not depend on who
shares the step: a shared or kept answer is the one that the caller would have got alone. An answer must
follow from its Key alone; whatever else goes into a reply (the caller's own text, say) is added for each
caller, and what is shared is never changed. One Answers a model, used on the event loop alone, without locks.

    caller = Caller(deadline, priority)
    flights = [answers.board(key, caller, now) for key in keys]      # no await from here ..
    start a sequence for each of caller.leads, set its flight.sequence; if refused: answers.leave(caller)
    await answers.wait(caller)                                       # .. to here
    [flight.answer for flight in flights]

and when a sequence ends: `land`, or `fail` for what is not to be kept, or `expire` at its deadline.

A sequence has one deadline, its flight's: the leader's. A caller joins a flight that was given about as much
time as he has, or more, at his priority or a higher one; else he starts his own. So he never waits longer for
it to begin; but where the leader's time ends in the middle it begins again, perhaps too late for him. Callers
with less time than the flight leave at their own deadline, alone. Where the flight's comes first, as it does
among callers with equal timeouts, it expires for those whose time is up, and starts again for the others, in
the place that it had. A flight that nobody waits for any more is cancelled; while anybody waits it goes on,
whoever led it.

Streams neither lead nor join: what one of them has been sent already, a follower would have to be sent again.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

A = TypeVar("A")  # an answer
S = TypeVar("S")  # a sequence, or whatever names one
ABOUT_AS_MUCH = 1.1  # times: equal timeouts differ by what the network took of them
ENTRY_BYTES = 1024  # about what a kept flight takes beside its answer


class Key(NamedTuple):
    """Everything that decides an answer."""

    bundle_digest: str
    profile: str
    source: Hashable  # its ids, as a tuple or bytes
    options: Hashable


class Flight(Generic[A, S]):
    """One input on its way, and all who wait for it."""

    __slots__ = ("answer", "callers", "deadline", "key", "priority", "seconds", "sequence", "size_bytes")

    def __init__(self, key: Key | None, deadline: float, seconds: float, priority: int) -> None:
        self.key = key
        self.deadline = deadline
        self.seconds = seconds  # from its start to its deadline
        self.priority = priority
        self.sequence: S | None = None  # set by whoever started it
        self.answer: A | None = None  # set once it has landed
        self.callers: dict[Caller[A, S], int] = {}  # in the air: how many inputs of each
        self.size_bytes = 0


class Caller(Generic[A, S]):
    """One call, for all of its inputs. `deadline`: on the monotonic clock."""

    __slots__ = ("_done", "_left", "deadline", "flights", "joined", "leads", "priority")

    def __init__(self, deadline: float, priority: int = 0) -> None:
        self.deadline = deadline
        self.priority = priority
        self.leads: list[Flight[A, S]] = []  # to be started by this call
        self.flights: list[Flight[A, S]] = []  # waited for, those included
        self.joined = False  # some flight may go on past the deadline
        self._left = 0  # inputs in the air
        self._done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def board(self, flight: Flight[A, S]) -> None:
        """Waits for one more input."""
        self._left += 1
        self.flights.append(flight)
        flight.callers[self] = flight.callers.get(self, 0) + 1

    def landed(self, inputs: int) -> None:
        """Hears that inputs have their answers."""
        self._left -= inputs
        if not self._left:
            self._end(True)

    def expire(self) -> None:
        """Hears that the deadline has come."""
        self._end(False)

    async def done(self) -> bool:
        """Waits; False: the deadline came first."""
        return not self._left or await self._done

    def _end(self, whole: bool) -> None:
        if not self._done.done():
            self._done.set_result(whole)


class Answers(Generic[A, S]):
    """Flights by key, and the answers used last, at most `max_entries` and about `max_bytes` of them.

    `cancel` gets the sequences that nobody waits for any more. No entries: nothing is kept. `share` False:
    every input that has no kept answer flies alone.
    """

    def __init__(
        self, cancel: Callable[[list[S]], None], max_entries: int, max_bytes: int, share: bool = True
    ) -> None:
        self.hits = self.shared = self.decoded = 0  # inputs: answer kept; flight joined; let in to be decoded
        self.listed = 0  # inputs whose answers are in a lexicon, and that never come here
        self.size_bytes = 0
        self._cancel = cancel
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._share = share
        self._kept: OrderedDict[Key, Flight[A, S]] = OrderedDict()  # the least recently used first
        self._flying: dict[Key, Flight[A, S]] = {}  # the newest of each key

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def keeps(self) -> bool:
        """Whether answers are kept at all; else there is no need to `land` rather than `fail`."""
        return self._max_entries > 0

    def board(self, key: Key | None, caller: Caller[A, S], now: float) -> Flight[A, S]:
        """A flight for one input: landed already, joined, or new and in `caller.leads`.

        No key: an input that is to be decoded for this caller alone.
        """
        if key is not None and (kept := self._kept.get(key)):
            self._kept.move_to_end(key)
            self.hits += 1
            return kept
        flight = None if key is None else self._flying.get(key)
        if flight is not None and _suits(flight, caller, now):
            self.shared += 1
            caller.joined = True
        else:
            flight = Flight(key, caller.deadline, caller.deadline - now, caller.priority)
            caller.leads.append(flight)
            if key is not None and self._share:
                self._flying[key] = flight
        caller.board(flight)
        return flight

    async def wait(self, caller: Caller[A, S]) -> None:
        """Waits until all flights of a caller have landed. Raises TimeoutError at his deadline.

        Whoever gives up, then or because he is cancelled, leaves.
        """
        timer = None
        if caller.joined:  # else the sequences' own deadline is the caller's
            delay = caller.deadline - time.monotonic()
            timer = asyncio.get_running_loop().call_later(delay, caller.expire)
        try:
            if not await caller.done():
                raise TimeoutError
        finally:
            if timer:
                timer.cancel()
            self.leave(caller)

    def leave(self, caller: Caller[A, S]) -> None:
        """Lets a caller leave whatever is still in the air; cancels what nobody waits for any more."""
        abandoned = []
        for flight in caller.flights:
            if flight.callers.pop(caller, 0) and not flight.callers:
                self._forget(flight)
                if flight.sequence is not None:
                    abandoned.append(flight.sequence)
                    flight.sequence = None
        if abandoned:
            self._cancel(abandoned)

    def land(self, flight: Flight[A, S], answer: A, size_bytes: int) -> None:
        """Gives all callers their answer and keeps it. `size_bytes`: about, of key and answer."""
        self.fail(flight, answer)
        flight.size_bytes = size_bytes + ENTRY_BYTES
        if flight.key is None or not self._max_entries or flight.size_bytes > self._max_bytes:
            return
        if earlier := self._kept.pop(flight.key, None):
            self.size_bytes -= earlier.size_bytes
        self._kept[flight.key] = flight
        self.size_bytes += flight.size_bytes
        while len(self._kept) > self._max_entries or self.size_bytes > self._max_bytes:
            self.size_bytes -= self._kept.popitem(last=False)[1].size_bytes

    def fail(self, flight: Flight[A, S], answer: A) -> None:
        """Gives all callers an answer that is not kept: a failure, or any where none is kept."""
        assert flight.answer is None, "landed twice"
        flight.answer = answer
        flight.sequence = None  # it knows the flight: the two would wait for the collector together
        self._forget(flight)
        callers, flight.callers = flight.callers, {}
        for caller, inputs in callers.items():
            caller.landed(inputs)

    def expire(self, flight: Flight[A, S], now: float) -> bool:
        """The deadline of a flight's sequence came. True: start it again, with its new deadline.

        Callers who have no more time than that hear that their deadline has come.
        """
        for caller in [caller for caller in flight.callers if caller.deadline <= flight.deadline]:
            del flight.callers[caller]
            caller.expire()
        if not flight.callers:
            self._forget(flight)
            return False
        flight.deadline = max(caller.deadline for caller in flight.callers)
        flight.seconds = flight.deadline - now
        return True

    def _forget(self, flight: Flight[A, S]) -> None:
        """Nobody can join it any more."""
        if flight.key is not None and self._flying.get(flight.key) is flight:
            del self._flying[flight.key]


def _suits(flight: Flight[A, S], caller: Caller[A, S], now: float) -> bool:
    """Whether a caller may join: neither his priority nor his time is beyond the flight's."""
    return flight.priority >= caller.priority and caller.deadline - now <= ABOUT_AS_MUCH * flight.seconds
