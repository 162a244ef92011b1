"""The bundle behind servers of others: starts one, checks its answers, and loads it by h2load.

Knows of each what is sent and what comes back; how they serve stands in bench/mosec_server.py and
bench/pytriton_server.py.
"""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.h2load import JSON, calls_s
from bench.servers import STOP_SECONDS, family

START_SECONDS = 120
PROBE = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"


@dataclass(frozen=True)
class Other:
    """A server that takes JSON over HTTP: what asks for a word, and where its answer stands."""

    name: str
    package: str
    path: str
    question: Callable[[str], object]
    text: Callable[[Any], str]
    processes: Callable[[int], int]  # so many at least, with so many workers


MOSEC = Other(
    "mosec",
    "mosec",
    "/inference",
    question=lambda word: word,
    text=lambda body: body,
    processes=lambda workers: 2 + workers,  # itself, its front, and the workers
)
PYTRITON = Other(
    "pytriton",
    "nvidia-pytriton",
    "/v2/models/words/infer",
    question=lambda word: {
        "inputs": [{"name": "word", "shape": [1, 1], "datatype": "BYTES", "data": [word]}]
    },
    text=lambda body: body["outputs"][0]["data"][0],
    processes=lambda _: 1,  # it answers once all of it is there
)


def version(other: Other, python: str) -> str:
    """The version of a server in the environment of an interpreter; empty where it is not installed."""
    done = subprocess.run([python, "-c", PROBE, other.package], capture_output=True, text=True)
    return "" if done.returncode else done.stdout.strip()


def calls_of_other_s(
    other: Other,
    python: str,
    folder: Path,
    workers: int,
    answers: Mapping[str, str],
    in_flight: int,
    seconds: float,
) -> float | None:
    """Calls a second for words with known answers, by a server that an interpreter runs.

    None: h2load is not installed. Raises ValueError where an answer is not the known one, TimeoutError where
    the server does not answer at all.
    """
    with serving(other, python, folder, workers, next(iter(answers))) as url:
        compare(other, url, answers)
        messages = [json.dumps(other.question(word)).encode() for word in answers]
        rate = calls_s(url, messages, in_flight, seconds, JSON)
        compare(other, url, answers)
    return rate


def compare(other: Other, url: str, answers: Mapping[str, str]) -> None:
    """Asks each word. Raises ValueError where an answer is not the known one, OSError."""
    for word, answer in answers.items():
        if (given := ask(other, url, word)) != answer:
            raise ValueError(f"{other.name} says {given!r} where Chairlift says {answer!r}")


def ask(other: Other, url: str, word: str) -> str:
    """The answer to one word. Raises OSError."""
    body = json.dumps(other.question(word)).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return other.text(json.load(response))


@contextmanager
def serving(other: Other, python: str, folder: Path, workers: int, word: str) -> Iterator[str]:
    """A server with a bundle, as long as the context lasts; where to send words. Its first is `word`.

    Raises TimeoutError where it does not answer.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [python, "-m", f"bench.{other.name}_server", str(folder), str(workers), str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        url = f"http://127.0.0.1:{port}{other.path}"
        try:
            _wait_for(other, url, word, process, workers)
            yield url
        finally:
            below = family(process.pid)
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                for pid in below:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def _wait_for(other: Other, url: str, word: str, process: "subprocess.Popen[bytes]", workers: int) -> None:
    """Until it answers and all of its processes are there. Raises TimeoutError where that does not happen."""
    stop = time.monotonic() + START_SECONDS
    while time.monotonic() < stop and process.poll() is None:
        try:
            ask(other, url, word)
        except OSError:
            time.sleep(0.1)
        else:
            if len(family(process.pid)) >= other.processes(workers):
                return
    raise TimeoutError(f"it did not answer, and ended or had {START_SECONDS} s")
