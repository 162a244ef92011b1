"""A device is lost in the middle of decoding: whoever ran may ask again, and the engine recovers or ends."""

import asyncio
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import grpc
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from bundle.reader import Bundle
from service import engine_process, opening
from service.channel import Channel
from service.decoder import DeviceLost
from service.device_engine import DeviceEngine
from service.dispatcher import Dispatcher, Submission
from service.engine import Engine
from service.errors import StartError
from service.hypothesis import Outcome
from service.link import Link
from service.messages import Failed, Frames, FromEngine, Ready, Start
from service.options import Options
from service.watchdog import HUNG, Watchdog
from tests.service.captures import Fuse, put_on_fuse
from tests.service.conftest import CountdownEngine, until
from tests.service.lift import FAR
from tests.service.test_engine import some_sources

ROWS = 4


class Ended(BaseException):
    """In place of the end of a process."""


class Host:
    """An engine process's host in a thread of this one, on a device that burns out after some runs."""

    def __init__(self, link: Link, thread: threading.Thread, ends: list[int]) -> None:
        self.link = link
        self.thread = thread
        self.ends = ends  # exit statuses
        self.moved: list[Ready] = []
        self.lost = asyncio.Event()
        self.dispatcher = Dispatcher([link], ROWS, 1000, lambda *_: None, self.lost.set)
        link.moved = self.moved.append

    def submit(self, count: int) -> list[Submission]:
        submissions = [
            Submission(source, Options(12), FAR, lambda _: None) for source in some_sources(count, 4)
        ]
        self.dispatcher.submit(submissions)
        return submissions


Launch = Callable[..., "asyncio.Future[Host]"]


@pytest.fixture
async def launch(bundle: Bundle, tiny_bundle, monkeypatch) -> AsyncIterator[Launch]:
    hosts: list[Host] = []

    async def start(device: str, runs: int) -> Host:
        fuse = Fuse(10**9)
        ends: list[int] = []

        def open_engine(bundle, profile, rows, device, threads, kernels, tf32):
            if device == "cpu":
                return Engine(bundle, profile, rows, threads), ""
            engine = DeviceEngine(bundle, profile or "fp32", rows, "cpu")
            put_on_fuse(engine, fuse)
            return engine, ""

        def end(status: int) -> None:
            ends.append(status)
            raise Ended

        def serve() -> None:
            with theirs, suppress(Ended):
                engine_process.EngineHost(Channel(theirs), order).serve()

        monkeypatch.setattr(engine_process, "open_engine", open_engine)
        monkeypatch.setattr(engine_process.os, "_exit", end)
        monkeypatch.setattr(logging, "shutdown", lambda: None)
        order = Start(str(tiny_bundle), "", device, ROWS, 2, 1, 1024)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        link = Link(ours)
        await link.open()
        thread = threading.Thread(target=serve)
        thread.start()
        await link.ready()
        fuse.left = runs
        hosts.append(Host(link, thread, ends))
        return hosts[-1]

    yield start
    for host in hosts:
        host.link.close()
        await asyncio.to_thread(host.thread.join, 10)
        assert not host.thread.is_alive()


def outcomes(submissions: list[Submission]) -> list[Outcome]:
    return [submission.ended.outcome for submission in submissions]


WHOLE = {Outcome.EOS, Outcome.LENGTH}


@pytest.mark.parametrize("runs", [0, 1, 2, 3, 8, 20])
async def test_under_auto_the_cpu_goes_on(launch, bundle: Bundle, runs):
    """Those who ran are lost; those who waited, and those who come, get the CPU's answers."""
    host = await launch("auto", runs)
    submissions = host.submit(40)
    await until(lambda: not host.dispatcher.inside)
    found = outcomes(submissions)
    assert 1 <= found.count(Outcome.LOST) <= ROWS
    assert set(found) - {Outcome.LOST} <= WHOLE
    assert [(ready.device, ready.profile) for ready in host.moved] == [("cpu", "fp32")]
    assert "secret" not in host.moved[0].fallback
    later = host.submit(40)
    await until(lambda: not host.dispatcher.inside)
    assert set(outcomes(later)) <= WHOLE
    for one, other in zip(submissions, later, strict=True):
        if one.ended.outcome is not Outcome.LOST:
            assert one.ended.hypotheses == other.ended.hypotheses
    host.link.close()
    await asyncio.to_thread(host.thread.join, 10)
    assert host.ends == [0]  # at once: what the lost device holds is not freed


class NoRoom(DeviceEngine):
    """Its sessions fit the device; its rows do not."""

    def __init__(self, bundle: Bundle, profile: str, rows: int, *_: object) -> None:
        raise Fail("Failed to allocate memory for requested buffer of size 1 at /a/secret/path")


class OnCpu(DeviceEngine):
    """It has room, on the CPU."""

    def __init__(self, bundle: Bundle, profile: str, rows: int, _: str, *more, **named) -> None:
        super().__init__(bundle, profile, rows, "cpu", *more, **named)


def fails_on_a_device(bundle: Bundle, engine: Engine | DeviceEngine) -> float:
    """In place of the golden cases: it has no room for those."""
    if isinstance(engine, DeviceEngine):
        engine.device = "cuda"
        raise Fail("Failed to allocate memory for requested buffer of size 1 at /a/secret/path")
    return 0.0


class NoRoomInWarmUp(OnCpu):
    """It has room for its rows, not for wider memory."""

    def warm_up(self) -> None:
        self.device = "cuda"
        raise DeviceLost("cuda failed between two steps") from Fail("Failed to allocate memory")


@pytest.mark.parametrize("kind", [NoRoom, OnCpu, NoRoomInWarmUp])
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_device_without_room_falls_back_or_says_so(
    kind: type[DeviceEngine], device: str, tiny_bundle, monkeypatch, caplog
):
    """The process ends with what it said, and not by an error of its own; the log has the cause."""
    monkeypatch.setattr(opening, "check_cuda", lambda: None)
    monkeypatch.setattr(opening, "DeviceEngine", kind)
    monkeypatch.setattr(engine_process, "open_beside", lambda engine, *_: engine)
    monkeypatch.setattr(engine_process, "verify", fails_on_a_device)
    monkeypatch.setattr(engine_process.os, "_exit", lambda _: None)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    ours, theirs = socket.socketpair()
    ours.shutdown(socket.SHUT_WR)
    order = Start(str(tiny_bundle), "", device, ROWS, 2, 1, 1024)
    with ours, theirs:
        engine_process.EngineHost(Channel(theirs), order).serve()
        [said, *_] = Frames(FromEngine).feed(ours.recv(10_000))
    reason = said.fallback if isinstance(said, Ready) else said.reason
    assert isinstance(said, Ready if device == "auto" else Failed)
    assert "cuda" in reason and "secret" not in reason
    assert device == "cuda" or said.device == "cpu"
    assert "Failed to allocate memory" in caplog.text


@pytest.mark.parametrize("runs", [0, 5])
async def test_under_cuda_the_process_ends(launch, runs):
    """Everybody inside is lost, not failed: another server may answer them."""
    host = await launch("cuda", runs)
    submissions = host.submit(40)
    await until(lambda: host.lost.is_set() and not host.dispatcher.inside)
    found = outcomes(submissions)
    assert Outcome.LOST in found and set(found) <= {Outcome.LOST, *WHOLE}
    assert host.moved == []
    await asyncio.to_thread(host.thread.join, 10)
    assert host.ends == [0]


async def test_a_cpu_that_cannot_take_over_ends_the_process(launch, monkeypatch):
    host = await launch("auto", 3)

    def refuses(*_):
        raise StartError("no")

    monkeypatch.setattr(engine_process, "open_engine", refuses)
    submissions = host.submit(10)
    await until(lambda: host.lost.is_set() and not host.dispatcher.inside)
    assert set(outcomes(submissions)) <= {Outcome.LOST, *WHOLE}


class LosesDevice(CountdownEngine):
    """Its device is lost at the third step."""

    def step(self, count):
        if len(self.counts) == 2:
            raise DeviceLost("a secret of the device")
        return super().step(count)

    def recover(self, lost: DeviceLost):
        return CountdownEngine(self.rows), CountdownEngine(self.rows)


async def test_callers_hear_unavailable_and_may_try_again(start):
    service = await start(LosesDevice())
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await service.ask("ddd")
    error = refusal.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "secret" not in error.details() and "device" in error.details()
    assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
    assert service.metric("chairlift_sequences_finished_total", reason="lost") == 1
    assert await service.texts("ddd") == await service.texts("ddd")


@pytest.fixture
def no_alarm(monkeypatch):
    """The timer is the process's, and pytest's own."""
    monkeypatch.setattr("service.watchdog.signal.setitimer", lambda *_: None)


def test_a_device_that_hangs_ends_the_process(monkeypatch, no_alarm):
    ends: list[int] = []
    gone, hung = threading.Event(), threading.Event()
    monkeypatch.setattr("service.watchdog.os._exit", lambda status: (ends.append(status), hung.set()))
    watchdog = Watchdog(gone.set, stall_seconds=0.01)
    with watchdog.watching():
        assert hung.wait(5)
    watchdog.stop()
    assert gone.is_set() and ends[0] == HUNG


def test_steps_that_come_back_end_nothing(monkeypatch, no_alarm):
    """Negative control: many of them take longer than one may."""
    ends: list[int] = []
    monkeypatch.setattr("service.watchdog.os._exit", ends.append)
    watchdog = Watchdog(lambda: None, stall_seconds=0.2)
    looks = threading.Event()
    for _ in range(30):
        with watchdog.watching():
            looks.wait(0.01)
    watchdog.stop()
    assert ends == []


@pytest.mark.parametrize(("library", "status"), [("PyDLL", -signal.SIGALRM), ("CDLL", HUNG)])
def test_a_device_that_hangs_with_the_interpreter_ends_the_process_too(library: str, status: int):
    """As a copy would, which lets no thread of Python run. Where it does, the watchdog is first."""
    hang = f"ctypes.{library}(None).sleep(60)"
    watched = f"with Watchdog(lambda: None, 0.5).watching(): {hang}"
    program = f"import ctypes\nfrom service.watchdog import Watchdog\n{watched}"
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == status


class Replays(CountdownEngine):
    """Each of its steps is a captured graph."""

    replayed = True


async def test_steps_are_timed_by_rows_and_replays_are_counted(start, nobody_is_held):
    service = await start(Replays())
    await service.texts("d", "e", "f")
    steps = {rows: service.metric("chairlift_steps_total", rows=rows) for rows in ("1", "2", "4", "8")}
    assert steps["4"] > 0 == steps["8"]
    assert service.metric("chairlift_graph_replays_total") == sum(steps.values())
    assert service.metric("chairlift_steps_seconds_total", rows="8") == 0
