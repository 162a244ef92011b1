"""What is measured of one server. Most measures return figures under flat keys: a name, what, and the unit.

In a key `_1`, `_64` and `_256` are calls in flight, `ms` milliseconds of latency, `us` microseconds of
CPU time.
"""

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from random import Random

from bench import echo
from bench.answers import CANCELLED, EXPIRED, REFUSED, SERVICE, Marks, Question, framed
from bench.http2 import Connection
from bench.load import Mark, Run, closed_loop, open_loop, percentile, plan
from bench.questions import endless
from bench.servers import Server
from bench.words import SEED

Figures = dict[str, float]

GENERATE, STREAM = f"/{SERVICE}/Generate", f"/{SERVICE}/GenerateStream"
ECHO = f"/{echo.SERVICE}/{echo.METHOD}"
ECHO_MESSAGE = framed(bytes(range(20)))
ECHO_QUESTION = Question(ECHO_MESSAGE, ECHO_MESSAGE)
LIST_CALLS = 16
WARM_UP_SHARE = 0.1  # of a closed loop's time, before it, and not counted


class Usage:
    """What a server and this client use between `begin` and `figures`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.begin()

    def begin(self) -> None:
        """From here on it counts."""
        self._steps, self._rows = self._server.steps()
        self._client, self._cpu = time.process_time(), self._server.cpu_seconds()

    def figures(self, name: str, count: int, suffix: str = "") -> Figures:
        """Processor time for each of `count` things, and the mean number of rows in a step."""
        cpu, client = self._server.cpu_seconds() - self._cpu, time.process_time() - self._client
        steps, rows = self._server.steps()
        figures = {
            f"{name}.cpu_us{suffix}": cpu / count * 1e6,
            f"{name}.client_cpu_us{suffix}": client / count * 1e6,
        }
        if steps > self._steps:
            figures[f"{name}.mean_step_rows{suffix}"] = (rows - self._rows) / (steps - self._steps)
        return figures


def latencies(name: str, values: list[float], suffix: str = "") -> Figures:
    """The median and the 99th percentile, in milliseconds."""
    return {f"{name}p{percent}_ms{suffix}": percentile(values, percent) * 1e3 for percent in (50, 99)}


def measure_echo(name: str, server: Server, in_flight: int, seconds: float) -> Figures:
    """A closed loop against the server that does nothing. Raises ValueError where it does something else."""
    marks = Marks()
    questions = itertools.repeat(ECHO_QUESTION)
    run, usage = _closed(server, ECHO, questions, in_flight, seconds, marks.mark)
    if marks.wrong or marks.failed:
        raise ValueError("the echo is not what was sent")
    return _calls(name, run, usage, in_flight)


def measure_words(
    name: str, server: Server, questions: list[Question], in_flight: int, seconds: float, mark: Mark
) -> Figures:
    """A closed loop of one word a call."""
    run, usage = _closed(server, GENERATE, endless(questions), in_flight, seconds, mark)
    return _calls(name, run, usage, in_flight)


def measure_once(name: str, server: Server, questions: list[Question], in_flight: int, mark: Mark) -> Figures:
    """Each question once, without a warm-up."""
    with Connection(server.listen, GENERATE) as connection:
        run = closed_loop(connection, iter(questions), in_flight, 0.0, float("inf"), mark)
    return {f"{name}.rps_{in_flight}": len(run.answered) / run.seconds}


def measure_lists(name: str, server: Server, lists: list[Question], seconds: float, mark: Mark) -> Figures:
    """A closed loop of many words a call; processor time is a word's."""
    run, usage = _closed(server, GENERATE, endless(lists), LIST_CALLS, seconds, mark)
    words = sum(call.question.words for call in run.answered)
    return {
        f"{name}.words_s": words / run.seconds,
        **latencies(f"{name}.", run.latencies),
        **usage.figures(name, words),
    }


def measure_beside(
    name: str, server: Server, flood: list[Question], single: list[Question], seconds: float, mark: Mark
) -> Figures:
    """One caller with a word a call: his latencies, beside a closed loop of many words a call, or of nothing.

    And what the loop gets meanwhile, and how long a step is in the mean.
    """
    steps, ran = server.steps()[0], server.step_seconds()
    words, callers = (endless(flood), LIST_CALLS) if flood else (iter(()), 0)
    with Connection(server.listen, GENERATE) as connection:
        warm_up = WARM_UP_SHARE * seconds
        run = closed_loop(connection, words, callers, warm_up, seconds, mark, beside=endless(single))
    steps, ran = server.steps()[0] - steps, server.step_seconds() - ran
    return {
        **latencies(f"{name}_", [call.ended - call.sent for call in run.beside if call.status == 0]),
        f"{name}_words_s": sum(call.question.words for call in run.answered) / run.seconds,
        f"{name}_step_ms": ran / steps * 1e3,
    }


def measure_streams(server: Server, questions: list[Question], seconds: float, mark: Mark) -> Figures:
    """One stream at a time: to its first message, and to its end."""
    run, usage = _closed(server, STREAM, endless(questions), 1, seconds, mark)
    return {
        **latencies("stream.first_token_", [call.first - call.sent for call in run.answered]),
        **latencies("stream.", run.latencies),
        **usage.figures("stream", len(run.answered)),
    }


def measure_open(
    name: str, server: Server, questions: list[Question], rate: float, seconds: float, mark: Mark
) -> Figures:
    """One word a call at random moments, whether or not others are answered yet. Latencies: the answered."""
    run, usage = _open(server, questions, rate, seconds, mark)
    answered = len(run.answered)
    ends = Counter(call.status for call in run.calls)
    return {
        f"{name}.planned_rps": rate,
        f"{name}.answered_rps": answered / run.seconds,
        f"{name}.refused": sum(ends[status] for status in REFUSED),
        f"{name}.cancelled": ends[CANCELLED],
        f"{name}.expired": ends[EXPIRED],
        **(latencies(f"{name}.", run.latencies) if answered else {}),
        **latencies(f"{name}.sent_late_", run.delays),
        **usage.figures(name, max(1, answered)),
    }


def measure_capacity(
    server: Server, mixed: list[Question], in_flight: int, seconds: float, mark: Mark
) -> float:
    """Calls a second of a closed loop of short and long ones."""
    run, _ = _closed(server, GENERATE, endless(mixed), in_flight, seconds, mark)
    return len(run.answered) / run.seconds


def measure_short(
    server: Server, mixed: list[Question], rate: float, seconds: float, mark: Mark
) -> list[float]:
    """An open loop of short and long ones together: the latencies of the short ones."""
    run, _ = _open(server, mixed, rate, seconds, mark)
    return [call.ended - call.sent for call in run.answered if not call.question.is_long]


def _open(
    server: Server, questions: list[Question], rate: float, seconds: float, mark: Mark
) -> tuple[Run, Usage]:
    times = plan(rate, seconds, Random(SEED))
    asked = list(itertools.islice(endless(questions), len(times)))
    with Connection(server.listen, GENERATE) as connection:
        usage = Usage(server)
        return open_loop(connection, asked, times, mark), usage


def _closed(
    server: Server, method: str, questions: Iterator[Question], in_flight: int, seconds: float, mark: Mark
) -> tuple[Run, Usage]:
    usage = Usage(server)
    with Connection(server.listen, method) as connection:
        warm_up = WARM_UP_SHARE * seconds
        run = closed_loop(connection, questions, in_flight, warm_up, seconds, mark, usage.begin)
        return run, usage


def _calls(name: str, run: Run, usage: Usage, in_flight: int) -> Figures:
    return {
        f"{name}.rps_{in_flight}": len(run.answered) / run.seconds,
        **latencies(f"{name}.", run.latencies, f"_{in_flight}"),
        **usage.figures(name, len(run.answered), f"_{in_flight}"),
    }
