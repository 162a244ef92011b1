"""What a server does without a GPU, without libraries, and when the GPU breaks in the middle of decoding.

Each drill starts a server of its own, and says what was promised, what was seen, and whether that is kept.
"""

import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.bench import PLACES
from bench.servers import Server, running, total
from bench.words import choose
from chairlift.v1 import seq2seq_pb2 as pb
from chairlift.v1 import seq2seq_pb2_grpc

CALLS, WORDS = 60, 32
CALL_SECONDS = 30.0
REFUSE_SECONDS = 40.0
REFUSED = "exit 2, saying why"
FALLEN_BACK = "the CPU answers; counted; SERVING"
GOES_ON = "UNAVAILABLE for those who run, then the CPU answers; counted; SERVING"
ENDED = "UNAVAILABLE for all inside; the server ends"
Seen = dict[str, object]


def run_drills(models: Path, device: str) -> Iterator[tuple[str, Seen]]:
    """One after the other. `device` cpu: the device that breaks is the CPU, in the part of a GPU.

    What fails in a drill, or takes too long, breaks its promise, and no other drill.
    """
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    broken = {"DRILL": "cpu"} if device == "cpu" else {}
    libraries, cudnn = {"DRILL": "libraries"}, {"DRILL": "cudnn"}
    named = "libcudnn.so.9" if device == "cuda" else "device cuda"  # elsewhere more is missing
    drills: dict[str, tuple[str, Callable[[], Seen]]] = {
        "no GPU, cuda": (REFUSED, partial(_refuses, "service", models, hidden)),
        "no GPU, auto": (FALLEN_BACK, partial(_falls_back, "service", models, hidden)),
        "no libraries, cuda": (REFUSED, partial(_refuses, "bench.broken_device", models, libraries)),
        "no cuDNN, cuda": (REFUSED, partial(_refuses, "bench.broken_device", models, cudnn, named)),
        "breaks in the middle, auto": (GOES_ON, partial(_goes_on, models, broken)),
        "breaks in the middle, cuda": (ENDED, partial(_ends, models, broken)),
    }
    for name, (promised, drill) in drills.items():
        try:
            seen = drill()
        except Exception as error:
            seen = {"failed": f"{type(error).__name__}: {error}", "kept": False}
        yield name, {"promised": promised, **seen}


def _refuses(module: str, models: Path, environment: Mapping[str, str], named: str = "device cuda") -> Seen:
    command = [sys.executable, "-m", module, "--models", str(models), "--device", "cuda", *PLACES]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=REFUSE_SECONDS
    )
    said = done.stderr.strip().splitlines()[-1:]
    ok = done.returncode == 2 and any(named in line for line in said)
    return {"status": done.returncode, "said": said, "kept": ok}


def _falls_back(module: str, models: Path, environment: Mapping[str, str]) -> Seen:
    with _started(module, models, "auto", environment) as server:
        codes = _ask(server, 2)
        found = _state(server)
    kept = set(codes) == {"OK"} and found == {"device": "cpu", "fallbacks": 1.0, "health": "SERVING"}
    return {"codes": codes, **found, "kept": kept}


def _goes_on(models: Path, environment: Mapping[str, str]) -> Seen:
    with _started("bench.broken_device", models, "auto", environment) as server:
        codes = _ask(server, CALLS)
        after = _ask(server, 5)
        found = _state(server)
    kept = set(codes) == {"OK", "UNAVAILABLE"} and set(after) == {"OK"}
    kept &= found == {"device": "cpu", "fallbacks": 1.0, "health": "SERVING"}
    return {"codes": codes, "after": after, **found, "kept": kept}


def _ends(models: Path, environment: Mapping[str, str]) -> Seen:
    with _started("bench.broken_device", models, "cuda", environment) as server:
        codes = _ask(server, CALLS)
        gone = _ended(server.pid)
    kept = set(codes) == {"OK", "UNAVAILABLE"} and gone
    return {"codes": codes, "ended": gone, "kept": kept}


@contextmanager
def _started(module: str, models: Path, device: str, environment: Mapping[str, str]) -> Iterator[Server]:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with running(module, "--models", str(models), "--device", device, *PLACES) as server:
            yield server
    finally:
        os.environ.clear()
        os.environ.update(before)


def _ask(server: Server, calls: int) -> dict[str, int]:
    """Calls one after the other, without trying again: how many ended with which code."""
    codes: Counter[str] = Counter()
    words = choose(None, calls * WORDS, 24)
    with grpc.insecure_channel(server.listen) as channel:
        stub = seq2seq_pb2_grpc.Seq2SeqServiceStub(channel)
        for first in range(0, len(words) - WORDS + 1, WORDS):
            request = pb.GenerateRequest(inputs=words[first : first + WORDS])
            try:
                stub.Generate(request, timeout=CALL_SECONDS)
                codes["OK"] += 1
            except grpc.RpcError as error:
                codes[error.code().name] += 1
    return dict(codes)


def _state(server: Server) -> dict[str, object]:
    with urllib.request.urlopen(f"http://{server.http}/metrics", timeout=10) as page:
        fallbacks = total(page.read().decode(), "chairlift_device_fallback_total")
    with grpc.insecure_channel(server.listen) as channel:
        model = seq2seq_pb2_grpc.Seq2SeqServiceStub(channel).GetModel(pb.GetModelRequest(), timeout=10).model
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)  # type: ignore[attr-defined]
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(health.status)
    return {"device": model.device, "fallbacks": fallbacks, "health": status}


def _ended(pid: int, seconds: float = 20.0) -> bool:
    """Whether a process of ours ends by itself in time; what is left of it is its exit status."""
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False
