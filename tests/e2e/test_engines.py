"""A server and its engine processes: profiles, several engines, and what happens when either is killed."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from bundle.reader import Bundle, read_bundle
from chairlift import AsyncClient, Client, ServerError, Unavailable
from service.engine_process import NICENESS
from service.lifecycle import OVERRAN
from service.pollers import POLLER_NICENESS
from tests.e2e.conftest import ServerProcess

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")


@pytest.fixture(scope="session")
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


def engines(server: ServerProcess) -> list[int]:
    """Process ids of a server's engines."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == server.process.pid and b"service.engine_process" in command:
            found.append(int(folder.name))
    return found


def ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie that nobody has buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def all_ended(pids: list[int]) -> None:
    async with asyncio.timeout(10):
        while not all(map(ended, pids)):  # noqa: ASYNC110 (other processes tell nobody)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("profile", "count"), [("fp32", 1), ("fp32", 2), ("int8", 1), ("int8", 2), ("fp16", 1)]
)
async def test_answers_are_the_golden_ones(serve, every_profile, profile, count):
    bundle = read_bundle(every_profile / "tiny" / "1")
    options = ("--profile", profile, "--engines", str(count), "--max-rows", "4")
    server = serve(*options, models=every_profile).ready()
    assert len(engines(server)) == count
    cases = bundle.golden.cases
    async with AsyncClient(server.listen) as client:
        calls = [client.generate([case.text]) for case in cases for _ in range(3)]
        answers = [answer for (answer,) in await asyncio.gather(*calls)]
    for case, answer in zip([case for case in cases for _ in range(3)], answers, strict=True):
        assert list(answer.token_ids) == [token for token in case.target_ids if token]
        tolerance = bundle.manifest.profile(profile).score_tolerance * len(case.target_ids)
        assert answer.score == pytest.approx(case.score, abs=tolerance)
    text = await asyncio.to_thread(server.metrics)
    assert f'chairlift_rows{{model="tiny",version="1"}} {8.0 * count}' in text
    assert f'profile="{profile}"' in text


def nicenesses(pid: int) -> list[int]:
    """Of the threads of a process, its main thread's first: proc(5), the 19th field."""
    tasks = sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda task: int(task.name))
    return [int((task / "stat").read_text().rpartition(")")[2].split()[16]) for task in tasks]


@pytest.mark.skipif(os.getpriority(os.PRIO_PROCESS, 0) != 0, reason="the tests themselves are not run at 0")
async def test_the_event_loop_goes_before_the_poller_and_both_before_the_engines(serve):
    server = serve("--engines", "2").ready()
    with Client(server.listen) as client:
        assert len(client.generate(["abc"])) == 1
    loop, *others = nicenesses(server.process.pid)
    assert loop == 0
    assert POLLER_NICENESS in others
    assert 0 < POLLER_NICENESS < NICENESS
    assert [nicenesses(engine)[0] for engine in engines(server)] == [NICENESS, NICENESS]


async def crowd(server: ServerProcess, victim: int, number: int) -> set[str]:
    """Callers who go on until they are refused, and how; meanwhile a process is killed."""
    refused: set[str] = set()
    answered = asyncio.Event()
    async with AsyncClient(server.listen) as client:

        async def caller(length: int) -> None:
            while True:
                try:
                    await client.generate(["a" * length])
                    answered.set()
                except (ServerError, Unavailable) as error:
                    refused.add(error.code.name)
                    return

        callers = [asyncio.create_task(caller(1 + place % 20)) for place in range(40)]
        await answered.wait()
        os.kill(victim, number)
        await asyncio.wait_for(asyncio.gather(*callers), 30)
    return refused


@pytest.mark.parametrize("count", [1, 2])
async def test_an_engine_that_is_killed_ends_the_server_and_every_caller_hears_of_it(serve, count):
    server = serve("--engines", str(count), "--max-rows", "4", "--drain-seconds", "5").ready()
    pids = engines(server)
    refused = await crowd(server, pids[0], signal.SIGKILL)
    assert "INTERNAL" in refused and refused <= {"INTERNAL", "UNAVAILABLE"}
    assert server.exit_status() == 1
    died = server.logged("an engine died")
    assert (died["model"], died["pid"], died["status"]) == ("tiny/1", pids[0], -signal.SIGKILL)
    await all_ended(pids)


async def test_a_server_that_goes_on_is_not_ended(serve):
    """Negative control: a signal that engines leave to the server."""
    server = serve("--lame-duck-seconds", "0").ready()
    (engine,) = engines(server)
    os.kill(engine, signal.SIGTERM)
    os.kill(engine, signal.SIGINT)
    with Client(server.listen) as client:
        assert len(client.generate(["abc"])) == 1
    assert engines(server) == [engine]
    server.terminate()
    assert server.exit_status() == 0
    await all_ended([engine])


async def test_engines_end_with_a_server_that_is_killed(serve):
    server = serve("--engines", "2").ready()
    pids = engines(server)
    server.process.kill()
    await all_ended(pids)


@pytest.mark.parametrize("options", [["--profile", "fp16"], ["--device", "cuda"]])
async def test_what_cannot_start_leaves_no_process_behind(serve, options, bundle):
    server = serve(*options, "--engines", "2")
    assert server.exit_status() == 2
    (line,) = server.lines
    assert line.startswith("service: model tiny/1: ")


async def test_a_server_that_is_told_to_stop_while_it_loads_stops(serve):
    """It is process 1 in its container, where a signal that nobody takes is lost."""
    server = serve()
    async with asyncio.timeout(30):
        while not (pids := engines(server)):  # noqa: ASYNC110 (other processes tell nobody)
            await asyncio.sleep(0.01)
    os.kill(pids[0], signal.SIGSTOP)  # so that it never gets ready
    server.terminate()
    assert server.exit_status() == 0
    assert server.logged("stopped before it was ready")
    await all_ended(pids)


async def test_a_drain_that_outlasts_every_limit_is_ended(serve):
    """Its engine stands still, with a call inside, and takes longer to be given up than there is time."""
    server = serve("--lame-duck-seconds", "0", "--drain-seconds", "0").ready()
    (engine,) = engines(server)
    os.kill(engine, signal.SIGSTOP)
    async with AsyncClient(server.listen) as client:
        call = asyncio.create_task(client.generate(["abc"]))
        rows = 'chairlift_rows_in_use{model="tiny",version="1"} 1.0'
        async with asyncio.timeout(10):
            while rows not in await asyncio.to_thread(server.metrics):  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.01)
        server.terminate()
        assert await asyncio.to_thread(server.exit_status) == OVERRAN
        await asyncio.gather(call, return_exceptions=True)
    os.kill(engine, signal.SIGKILL)
    await all_ended([engine])
