"""The server as a user runs it: a process of its own, on free ports."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class ServerProcess:
    """`python -m service`, and what it logs. `listen` and `http` are known once it is ready."""

    def __init__(self, models: Path, *options: str) -> None:
        command = [sys.executable, "-m", "service", "--models", str(models), "--device", "cpu"]
        command += ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", *options]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CHAIRLIFT_")}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.lines: list[str] = []
        self.listen = self.http = ""
        self._logged = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            with self._logged:
                self.lines.append(line)
                self._logged.notify_all()
        with self._logged:
            self._ended = True
            self._logged.notify_all()

    def logged(self, message: str) -> dict[str, object]:
        """Waits for a record with this message."""

        def found() -> list[str]:
            return [line for line in self.lines if f'"message": "{message}"' in line]

        with self._logged:
            self._logged.wait_for(lambda: found() or self._ended, 30)
            assert found(), "".join(self.lines)
            return json.loads(found()[0])

    def ready(self) -> "ServerProcess":
        record = self.logged("ready")
        self.listen, self.http = record["listen"], record["http"]
        return self

    def metrics(self) -> str:
        """What Prometheus would be told."""
        with urllib.request.urlopen(f"http://{self.http}/metrics") as response:
            return response.read().decode()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def exit_status(self, seconds: float = 20) -> int:
        status = self.process.wait(seconds)
        self._reader.join(5)
        return status


@pytest.fixture
def serve(tiny_models: Path, front: str) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers of the tiny model; kills what is left of them."""
    processes = []

    def start(*options: str, models: Path = tiny_models) -> ServerProcess:
        processes.append(ServerProcess(models, "--front", front, *options))
        return processes[-1]

    yield start
    for server in processes:
        if server.process.poll() is None:
            server.process.kill()
        server.exit_status()
        server.process.stderr.close()
