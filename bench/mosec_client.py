"""The bundle behind Mosec: starts bench/mosec_server.py, checks its answers, and loads it by h2load."""

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.h2load import JSON, calls_s
from bench.servers import STOP_SECONDS, family

START_SECONDS = 60


def mosec_figures(
    folder: Path, workers: int, answers: Mapping[str, str], in_flight: int, seconds: float
) -> dict[str, float]:
    """Calls a second for words with known answers. No figures where Mosec or h2load is not installed.

    Raises ValueError where an answer is not the known one.
    """
    if importlib.util.find_spec("mosec") is None or shutil.which("h2load") is None:
        print("bench: mosec: mosec or h2load is not installed, left out", file=sys.stderr, flush=True)
        return {}
    with serving(folder, workers) as url:
        compare(url, answers)
        messages = [json.dumps(word).encode() for word in answers]
        rate = calls_s(url, messages, in_flight, seconds, JSON)
        compare(url, answers)
    assert rate is not None
    return {f"mosec{workers if workers > 1 else ''}.rps_{in_flight}": rate}


def compare(url: str, answers: Mapping[str, str]) -> None:
    """Asks each word. Raises ValueError where an answer is not the known one, OSError."""
    for word, answer in answers.items():
        if (given := ask(url, word)) != answer:
            raise ValueError(f"mosec says {given!r} where Chairlift says {answer!r}")


def ask(url: str, word: str) -> str:
    """The answer to one word. Raises OSError."""
    request = urllib.request.Request(url, json.dumps(word).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: str = json.load(response)
    return answer


@contextmanager
def serving(folder: Path, workers: int) -> Iterator[str]:
    """Mosec with a bundle, as long as the context lasts; where to send words."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = ["--address", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "bench.mosec_server", str(folder), str(workers), *place]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        url = f"http://127.0.0.1:{port}/inference"
        try:
            _wait_for(url, process, workers)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(url: str, process: "subprocess.Popen[bytes]", workers: int) -> None:
    """Until it answers and all of its processes are there: itself, its front, and the workers."""
    stop = time.monotonic() + START_SECONDS
    while time.monotonic() < stop and process.poll() is None:
        try:
            ask(url, "a")
        except OSError:
            time.sleep(0.1)
        else:
            if len(family(process.pid)) >= 2 + workers:
                return
    raise ValueError(f"mosec did not answer within {START_SECONDS} s")
