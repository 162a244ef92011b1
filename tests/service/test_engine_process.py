"""Real engine processes: they answer, they end with their front, and their death is heard of."""

import asyncio
import itertools
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from bundle.reader import Bundle
from service import engine_process, loading
from service import link as module
from service.channel import Channel
from service.dispatcher import Dispatcher, Submission
from service.engine import Engine
from service.engine_process import EngineHost
from service.errors import StartError
from service.hypothesis import Outcome
from service.link import EngineProcess
from service.loading import Loader
from service.messages import Failed, Frames, FromEngine, Start
from service.metrics import Metrics
from service.options import Options
from service.settings import Settings
from tests.service.conftest import until
from tests.service.lift import FAR

SOURCES = [[2 + n % 25, 3, 4 + n % 7] * (1 + n % 5) for n in range(60)]
Launch = Callable[..., EngineProcess]


@pytest.fixture
async def launch(tiny_bundle: Path) -> AsyncIterator[Launch]:
    """Starts engine processes, not yet open; ends what is left of them."""
    processes: list[EngineProcess] = []

    def launch_one(folder: Path = tiny_bundle, profile: str = "fp32", rows: int = 4) -> EngineProcess:
        start = Start(str(folder), profile, "cpu", rows, 32, 1, 1024)
        processes.append(EngineProcess(start, "error"))
        return processes[-1]

    yield launch_one
    for process in processes:
        await asyncio.to_thread(process.stop)


class Crowd:
    """Submissions to a process, and how they end."""

    def __init__(self, process: EngineProcess) -> None:
        self.ended: list[Submission] = []
        self.crashed = asyncio.Event()
        self.dispatcher = Dispatcher(
            [process.link], 4, 100_000, lambda _, ended: self.ended.extend(ended), self.crashed.set
        )

    def submit(self, sources: list[list[int]], priorities: Sequence[int] = (0,)) -> list[Submission]:
        """One for each source; priorities go round."""
        submissions = [
            Submission(ids, Options(12), FAR, lambda _: None, priority)
            for ids, priority in zip(sources, itertools.cycle(priorities))
        ]
        self.dispatcher.submit(submissions)
        return submissions

    async def answers(
        self, sources: list[list[int]], priorities: Sequence[int] = (0,)
    ) -> list[tuple[list[int], list[float]]]:
        submissions = self.submit(sources, priorities)
        await until(lambda: not self.dispatcher.inside)
        found = [submission.ended.hypotheses[0] for submission in submissions]
        return [(hypothesis.tokens, hypothesis.scores) for hypothesis in found]


def status(process: EngineProcess) -> int:
    """The exit status, once it has ended by itself."""
    return process._process.wait(20)


@pytest.mark.parametrize("profile", ["fp32", "int8"])
async def test_its_answers_are_the_golden_ones(launch, bundle: Bundle, profile):
    process = launch(profile=profile)
    ready = await process.open()
    tolerance = bundle.manifest.profile(profile).score_tolerance
    assert ready.device == "cpu" and 0 <= ready.difference <= tolerance and ready.fallback == ""
    cases = bundle.golden.cases
    answers = await Crowd(process).answers([list(case.source_ids) for case in cases])
    for case, (tokens, scores) in zip(cases, answers, strict=True):
        assert tokens == [token for token in case.target_ids if token]
        assert scores == pytest.approx(case.token_scores, abs=tolerance)


@pytest.mark.parametrize(
    ("number", "outcome"),
    [(signal.SIGKILL, Outcome.FAILED), (signal.SIGALRM, Outcome.LOST)],
    ids=["killed", "by the watchdog, as its device hangs with the interpreter"],
)
async def test_killed_in_the_middle_everybody_hears_of_it(launch, number, outcome):
    process = launch()
    await process.open()
    crowd = Crowd(process)
    submissions = crowd.submit([[2 + n % 20] * 20 for n in range(20_000)])
    await until(lambda: crowd.ended)
    os.kill(process._process.pid, number)
    await asyncio.wait_for(crowd.crashed.wait(), 10)
    assert len(crowd.ended) == len(set(map(id, crowd.ended))) == len(submissions)
    outcomes = [submission.ended.outcome for submission in submissions]
    assert outcomes.count(outcome) > 0
    assert set(outcomes) <= {outcome, Outcome.EOS, Outcome.LENGTH}
    assert status(process) == -number


async def test_stopped_by_us_is_not_lost(launch):
    """Negative control."""
    process = launch()
    await process.open()
    crowd = Crowd(process)
    await asyncio.to_thread(process.stop)
    await asyncio.sleep(0)
    assert not crowd.crashed.is_set()


async def test_killed_before_it_is_ready(launch):
    process = launch()
    opening = asyncio.create_task(process.open())
    await asyncio.sleep(0)
    os.kill(process._process.pid, signal.SIGKILL)
    with pytest.raises(StartError, match="ended before it was ready"):
        await opening


@pytest.mark.parametrize("fault", ["flipped", "missing", "unsound"])
async def test_a_damaged_bundle_is_named(launch, tiny_models: Path, tmp_path: Path, fault):
    folder = shutil.copytree(tiny_models, tmp_path / "models") / "tiny" / "1"
    decoder = folder / "decoder.fp32.onnx"
    if fault == "flipped":
        data = decoder.read_bytes()
        decoder.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
    elif fault == "missing":
        decoder.unlink()
    else:
        (folder / "manifest.json").write_text("{}")
    process = launch(folder)
    with pytest.raises(StartError, match=r"^(decoder\.fp32\.onnx|manifest\.json): ") as refusal:
        await process.open()
    assert str(tmp_path) not in str(refusal.value)
    assert status(process) == 0


async def test_a_profile_that_is_not_there_is_named(launch):
    with pytest.raises(StartError, match="'fp16'; int8, fp32 are allowed"):
        await launch(profile="fp16").open()


@pytest.mark.parametrize("busy", [False, True])
async def test_it_ends_with_its_front(launch, busy):
    process = launch()
    await process.open()
    if busy:
        crowd = Crowd(process)
        crowd.submit([[2] * 20] * 20_000)
        await until(lambda: crowd.ended)
    process.link.close()
    assert await asyncio.to_thread(status, process) == 0


@pytest.mark.parametrize("told", [False, True], ids=["before it is told what to load", "while it loads"])
async def test_it_ends_with_a_front_that_never_saw_it_ready(launch, told, capfd):
    process = launch()
    await process.link.open()
    if told:
        process.link.send(process._start)
    process.link.close()
    assert await asyncio.to_thread(status, process) == 0
    assert "Traceback" not in capfd.readouterr().err


async def test_signals_to_the_group_are_the_fronts_business(launch):
    process = launch()
    await process.open()
    crowd = Crowd(process)
    before = await crowd.answers([[2, 3], [4]])
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(process._process.pid, number)
    assert await crowd.answers([[2, 3], [4]]) == before
    assert not crowd.crashed.is_set()


async def test_one_that_is_lost_while_another_loads_is_not_served(tiny_models: Path, monkeypatch):
    """Nobody listens to its link yet."""
    opened: list[EngineProcess] = []
    open_ = EngineProcess.open

    async def open_then_kill(process):
        ready = await open_(process)
        opened.append(process)
        if len(opened) == 2:
            os.kill(opened[0]._process.pid, signal.SIGKILL)
            await until(lambda: opened[0].link.closed)
        return ready

    monkeypatch.setattr(EngineProcess, "open", open_then_kill)
    settings = Settings(models=str(tiny_models), engines=2, max_rows=2, device="cpu")
    loader = Loader(settings, Metrics(CollectorRegistry()), lambda: None)
    with pytest.raises(StartError, match="tiny/1: an engine process ended while another one loaded"):
        await loader.load()
    await loader.stop()


async def test_engines_of_two_kinds_are_not_served(tiny_models: Path, monkeypatch):
    """One got the device, the other fell back: equal requests would get one answer or the other."""
    profiles = iter(("int8", "fp32"))
    open_ = EngineProcess.open

    async def open_as_two_kinds(process):
        profile = next(profiles)
        return msgspec.structs.replace(await open_(process), profile=profile)

    monkeypatch.setattr(EngineProcess, "open", open_as_two_kinds)
    settings = Settings(models=str(tiny_models), engines=2, max_rows=2, device="cpu")
    loader = Loader(settings, Metrics(CollectorRegistry()), lambda: None)
    with pytest.raises(
        StartError,
        match="engines are fp32 on cpu by onnxruntime, int8 on cpu by",
    ):
        await loader.load()
    await loader.stop()


@pytest.mark.parametrize("error", [MemoryError("secret"), RuntimeError("secret")])
def test_an_engine_that_cannot_warm_up_says_so(tiny_bundle: Path, monkeypatch, error):
    def throw(engine):
        raise error

    monkeypatch.setattr(Engine, "warm_up", throw)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        EngineHost(Channel(theirs), Start(str(tiny_bundle), "fp32", "cpu", 4, 4, 1, 1024)).serve()
        (said,) = Frames(FromEngine).feed(ours.recv(1 << 16))
    assert said == Failed(f"device cpu: {type(error).__name__} before its first row")


async def test_one_that_hangs_is_killed(launch, monkeypatch):
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)
    process = launch()
    await process.open()
    os.kill(process._process.pid, signal.SIGSTOP)
    await asyncio.to_thread(process.stop)
    assert status(process) == -signal.SIGKILL


@pytest.mark.parametrize("profile", ["fp32", "int8"])
async def test_priority_changes_no_answer(launch, profile):
    process = launch(profile=profile)
    await process.open()
    crowd = Crowd(process)
    before = await crowd.answers(SOURCES)
    for priorities in ([1], [0, 1], [-2, 3, 0, 0, 10]):
        assert await crowd.answers(SOURCES, priorities) == before


async def test_two_processes_agree_bit_for_bit(launch):
    processes = [launch(), launch(rows=3)]
    await asyncio.gather(*(process.open() for process in processes))
    one, other = [await Crowd(process).answers(SOURCES) for process in processes]
    assert one == other


async def test_an_engine_is_opened_as_the_settings_say(tiny_bundle: Path, monkeypatch):
    orders, opened = [], []

    def order(start: Start, log_level: str):
        orders.append(start)
        raise StartError("one is enough")

    def open_engine(_, *options):
        opened.append(options)
        raise StartError("one is enough")

    monkeypatch.setattr(loading, "EngineProcess", order)
    monkeypatch.setattr(engine_process, "open_engine", open_engine)
    settings = Settings(
        models=str(tiny_bundle.parents[1]),
        profile="fp32",
        device="cuda",
        tf32=True,
        max_rows=6,
        kernels=False,
    )
    with pytest.raises(StartError, match="one is enough"):
        await Loader(settings, Metrics(CollectorRegistry()), lambda: None).load()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        EngineHost(Channel(theirs), orders[0]).serve()
    assert opened == [("fp32", 6, "cuda", 1, False, True)]
