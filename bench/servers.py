"""Servers of the run's own: started as processes, asked what they cost, and ended with the run.

Knows nothing of calls. A server is any module that writes a JSON line with "message": "ready" to stderr.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY_SECONDS = 120
STOP_SECONDS = 20
TICKS = os.sysconf("SC_CLK_TCK")


class NotReady(RuntimeError):
    """A server that ended, or was killed as it took too long, before it served; with its log."""


class Server:
    """One running server. `listen` is its gRPC address, `http` that of its metrics, empty for none.

    `front`: what takes the service's calls.
    """

    def __init__(self, process: subprocess.Popen[str], ready: dict[str, str]) -> None:
        self.pid = process.pid
        self.listen = ready["listen"]
        self.http = ready.get("http", "")
        self.front = ready.get("front", "")

    def cpu_seconds(self) -> float:
        """Processor time so far, user and system, of the server's process and all below it."""
        return sum(_cpu_seconds(_stat(pid)) for pid in family(self.pid))

    def memory(self) -> tuple[float, float]:
        """MiB that its processes hold in memory: each page for each process; and shared pages in parts."""
        resident = shared_out = 0
        for pid in family(self.pid):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, _, value = line.partition(":")
                resident += int(value.split()[0]) if name == "Rss" else 0
                shared_out += int(value.split()[0]) if name == "Pss" else 0
        return resident / 1024, shared_out / 1024

    def steps(self) -> tuple[float, float]:
        """Decoder steps so far, and rows in all of them together. Zeros where there are no metrics."""
        if not self.http:
            return 0.0, 0.0
        text = self._metrics()
        return total(text, "chairlift_step_rows_count"), total(text, "chairlift_step_rows_sum")

    def step_seconds(self) -> float:
        """Time in decoder steps so far."""
        return total(self._metrics(), "chairlift_step_seconds_sum")

    def _metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=10) as page:
            text: str = page.read().decode()
            return text


def family(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            children.setdefault(int(_stat(int(path.name))[1]), []).append(int(path.name))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def _stat(pid: int) -> list[str]:
    """A process's state, its parent and so on: proc(5), from the third field."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu_seconds(stat: list[str]) -> float:
    return (int(stat[11]) + int(stat[12])) / TICKS  # utime, stime


def machine_seconds() -> tuple[float, float]:
    """Processor time that the whole machine has been busy, and idle, since it started: all cores together."""
    times = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = times[3] + times[4]  # idle, iowait: proc(5)
    return (sum(times) - idle) / TICKS, idle / TICKS


def total(metrics: str, name: str) -> float:
    """A metric's value in Prometheus text, summed over its labels. Raises ValueError where there is none."""
    values = [
        float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith((f"{name} ", f"{name}{{"))
    ]
    if not values:
        raise ValueError(f"/metrics: no {name}")
    return sum(values)


@contextmanager
def running(module: str, *arguments: str) -> Iterator[Server]:
    """`python -m module` with arguments, as long as the context lasts. Raises NotReady."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process, _ready_line(process, module))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _ready_line(process: subprocess.Popen[str], module: str) -> dict[str, str]:
    """Reads a server's log until it serves, then leaves a thread to empty the pipe, which never fills."""
    assert process.stderr
    watchdog = threading.Timer(READY_SECONDS, process.kill)
    watchdog.start()
    log = []
    try:
        for line in process.stderr:
            log.append(line)
            if '"ready"' in line:
                threading.Thread(target=process.stderr.read, daemon=True).start()
                ready: dict[str, str] = json.loads(line)
                return ready
    finally:
        watchdog.cancel()
    raise NotReady(f"{module} did not become ready:\n{''.join(log)}")
