"""Shared flights and kept answers under random lives: callers come, hang up, run out of time; flights end."""

import random
from collections import Counter

import pytest

from service.answers import Answers
from tests.service.desk import LATER, Desk, key, settle


class LeaderTakesAll(Answers):
    """Broken on purpose: a flight is cancelled when its leader leaves."""

    def leave(self, caller):
        for flight in caller.leads:
            if caller in flight.callers:
                flight.callers = {caller: 1}
        super().leave(caller)


class ExpiresForAll(Answers):
    """Broken on purpose: a flight's deadline is everybody's."""

    def expire(self, flight, now):
        flight.deadline = float("inf")
        return super().expire(flight, now)


class KeepsFailures(Answers):
    """Broken on purpose."""

    def fail(self, flight, answer):
        super().fail(flight, answer)
        if flight.key is not None and answer == "failed":
            self._kept[flight.key] = flight


class MixesInputs(Answers):
    """Broken on purpose: the source's length stands for the source."""

    def board(self, key, caller, now):
        return super().board(key and key._replace(source=len(key.source)), caller, now)


async def random_life(seed: int, kind: type[Answers] = Answers) -> Counter[str]:
    """Callers come, hang up and run out of time; sequences end well, fail or expire. Counts what is wrong.

    The clock is played: it never comes near the deadlines of real timers.
    """
    chance, desk, now = random.Random(seed), Desk(kind, max_entries=3), LATER
    calls, running, wrong = [], {}, Counter()  # running: flights by the number of their sequence
    for turn in range(120):
        now += chance.random()
        if turn < 100 and chance.random() < 0.6:
            keys = [chance.choice([None, *map(key, range(4))]) for _ in range(chance.randint(1, 3))]
            time_left, priority = chance.choice([3, 10, 10, 10]), chance.choice([0, 0, 1])
            caller, flights, task = desk.board(*keys, deadline=now + time_left, priority=priority, now=now)
            running |= {flight.sequence: flight for flight in caller.leads}
            calls.append((caller, list(zip(keys, flights, strict=True)), task))
        if calls and chance.random() < 0.2:
            chance.choice(calls)[2].cancel()
        for caller, _, _ in calls:
            if caller.joined and now >= caller.deadline:
                caller.expire()
        await settle()
        for number in [number for number in desk.cancelled if number in running]:
            flight = running.pop(number)
            cut_off = [call for call in calls if flight in call[0].flights and not call[2].done()]
            wrong["cancelled though somebody waits"] += len(cut_off)
        end_some(running, desk, now, chance, 1.0 if turn >= 100 else 0.2)
        await settle()
        check(calls, now, wrong)
    wrong["waits for ever"] += len(calls)
    wrong["flies for ever"] += len(desk.answers._flying) + len(running)
    wrong["cancelled twice"] += len(desk.cancelled) - len(set(desk.cancelled))
    return +wrong


def end_some(running, desk, now, chance, share) -> None:
    """Ends those whose time is up, and a share of the others."""
    for number, flight in list(running.items()):
        if now >= flight.deadline:
            del running[number]
            if desk.answers.expire(flight, now):
                desk.start(flight)
                running[flight.sequence] = flight
        elif chance.random() < share:
            del running[number]
            if chance.random() < 0.2:
                desk.answers.fail(flight, "failed")
            else:
                desk.answers.land(flight, ("answer", flight.key), 10)


def check(calls, now, wrong) -> None:
    """Takes out the calls that are over, and counts what is wrong with them."""
    for call in [call for call in calls if call[2].done()]:
        calls.remove(call)
        caller, inputs, task = call
        if task.cancelled():
            continue
        if task.exception():
            wrong["expired too early"] += now < caller.deadline
            continue
        for wanted, flight in inputs:
            wrong["no answer"] += flight.answer is None
            wrong["another's answer"] += flight.answer not in ("failed", ("answer", wanted))
            wrong["a failure from before"] += flight.answer == "failed" and flight not in caller.flights


@pytest.mark.parametrize("seed", range(30))
async def test_random_lives_end_well(seed):
    assert await random_life(seed) == Counter()


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        (LeaderTakesAll, "cancelled though somebody waits"),
        (ExpiresForAll, "expired too early"),
        (KeepsFailures, "a failure from before"),
        (MixesInputs, "another's answer"),
    ],
)
async def test_a_broken_desk_is_seen(kind, seen):
    """Negative controls."""
    wrong = Counter()
    for seed in range(30):
        wrong += await random_life(seed, kind)
    assert seen in wrong
