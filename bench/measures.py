"""What is measured. Each measure returns figures under flat keys: its name, a point, what, and the unit.

In a key `_1` and `_64` are calls in flight, `ms` milliseconds of latency, `us` microseconds of CPU time.
"""

import itertools
import time
from collections.abc import Iterator
from random import Random

import grpc

from bench import echo
from bench.answers import Answers
from bench.load import Call, ClosedRun, Item, closed_loop, open_loop, percentile, plan
from bench.questions import SEED, Material
from bench.servers import Server

Figures = dict[str, float]

WARM_UP_SHARE = 0.1  # of a measure's time, before it, and not counted
ECHO_BYTES = 20
LIST_CALLS = 16
LONG_SHARE = 0.05
OPEN_LOAD = 0.5  # of the capacity that the closed loop found


class Usage:
    """What a server and this client have used since it was made."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._steps, self._rows = server.steps()
        self._client, self._cpu = time.process_time(), server.cpu_seconds()

    def figures(self, name: str, count: int, suffix: str = "") -> Figures:
        """Processor time for each of `count` things, and the mean number of rows in a step."""
        cpu, client = self._server.cpu_seconds() - self._cpu, time.process_time() - self._client
        steps, rows = self._server.steps()
        figures = {
            f"{name}.cpu_us{suffix}": cpu / count * 1e6,
            f"{name}.client_cpu_us{suffix}": client / count * 1e6,
        }
        if steps > self._steps:
            figures[f"{name}.mean_step_rows"] = (rows - self._rows) / (steps - self._steps)
        return figures


def latencies(name: str, values: list[float], suffix: str = "") -> Figures:
    """The median and the 99th percentile, in milliseconds."""
    return {f"{name}p{percent}_ms{suffix}": percentile(values, percent) * 1e3 for percent in (50, 99)}


async def measure_echo(channel: grpc.aio.Channel, in_flight: int, seconds: float, server: Server) -> Figures:
    """A closed loop against the server that does nothing."""
    message = bytes(range(ECHO_BYTES))
    send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
        f"/{echo.SERVICE}/{echo.METHOD}"
    )

    async def call(sent: bytes) -> None:
        if await send(sent, timeout=10) != sent:
            raise ValueError("the echo is not what was sent")

    return await _calls("echo", call, [message], in_flight, seconds, server)


async def measure_words(
    answers: Answers, material: Material, in_flight: int, seconds: float, server: Server
) -> Figures:
    """A closed loop of one word a call."""
    return await _calls("unary", answers.ask, material.questions, in_flight, seconds, server)


async def measure_lists(answers: Answers, material: Material, seconds: float, server: Server) -> Figures:
    """A closed loop of many words a call; processor time is a word's."""
    run, usage = await _warmed(answers.ask, _for_ever(material.lists), LIST_CALLS, seconds, server)
    words = len(run.latencies) * len(material.lists[0].words)
    return {
        "list32.words_s": words / run.seconds,
        **latencies("list32.", run.latencies),
        **usage.figures("list32", words),
    }


async def measure_streams(answers: Answers, material: Material, seconds: float, server: Server) -> Figures:
    """One stream at a time: to its first token, and to its end."""
    run, usage = await _warmed(answers.ask_stream, _for_ever(material.words), 1, seconds, server)
    return {
        **latencies("stream.first_token_", answers.first_token_seconds),
        **latencies("stream.", run.latencies),
        **usage.figures("stream", len(run.latencies)),
    }


async def measure_open(
    answers: Answers, material: Material, capacity: float, seconds: float, server: Server
) -> Figures:
    """One word a call at random moments, whether or not others are answered yet."""
    rate = OPEN_LOAD * capacity
    times = plan(rate, seconds, Random(SEED))
    items = list(itertools.islice(_for_ever(material.questions), len(times)))
    usage = Usage(server)
    run = await open_loop(answers.ask, items, times)
    return {
        "open.planned_rps": rate,
        **latencies("open.", run.latencies),
        **latencies("open.sent_late_", run.delays),
        **usage.figures("open", len(items)),
    }


async def measure_mix(answers: Answers, material: Material, capacity: float, seconds: float) -> Figures:
    """Short words at planned moments, alone and with long words in the place of some, by turns."""
    alone: list[float] = []
    beside: list[float] = []
    for turn in range(4):
        random = Random(SEED + turn // 2)  # the same moments and short words for both of a pair
        times = plan(OPEN_LOAD * capacity, seconds / 2, random)
        items = random.choices(material.short, k=len(times))
        mixed = turn % 2 == 1
        is_long = [mixed and random.random() < LONG_SHARE for _ in items]
        asked = [random.choice(material.long) if is_long[i] else item for i, item in enumerate(items)]
        run = await open_loop(answers.ask, asked, times)
        short = [latency for i, latency in enumerate(run.latencies) if not is_long[i]]
        (beside if mixed else alone).extend(short)
    return {
        **latencies("mix.short_", beside),
        **latencies("mix.alone_short_", alone),
        "mix.short_p99_ratio": percentile(beside, 99) / percentile(alone, 99),
    }


async def _calls(
    name: str, call: Call[Item], items: list[Item], in_flight: int, seconds: float, server: Server
) -> Figures:
    run, usage = await _warmed(call, _for_ever(items), in_flight, seconds, server)
    calls = len(run.latencies)
    return {
        f"{name}.rps_{in_flight}": calls / run.seconds,
        **latencies(f"{name}.", run.latencies, f"_{in_flight}"),
        **usage.figures(name, calls, f"_{in_flight}"),
    }


async def _warmed(
    call: Call[Item], items: Iterator[Item], in_flight: int, seconds: float, server: Server
) -> tuple[ClosedRun, Usage]:
    """A closed loop, after a short one that does not count."""
    await closed_loop(call, items, in_flight, seconds * WARM_UP_SHARE)
    usage = Usage(server)
    return await closed_loop(call, items, in_flight, seconds), usage


def _for_ever(items: list[Item]) -> Iterator[Item]:
    """The items in an order that the seed decides, again and again."""
    return itertools.cycle(Random(SEED).choices(items, k=8 * len(items)))
