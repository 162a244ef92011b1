"""A second opinion on the client of load: h2load, which is written in C, where it is installed.

It sends one fixed message a process and cannot see a gRPC status, so it measures nothing here alone: several
processes send one word each, and what they reach together is set against the figure of bench/http2.py.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "grpc-timeout: 10S")
JSON = ("-H", "content-type: application/json", "--h1")
RATE = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")
LEAST_SECONDS = 1  # it counts in whole ones
SPARE_SECONDS = 60


def calls_s(
    url: str, messages: Sequence[bytes], in_flight: int, seconds: float, kind: Sequence[str] = GRPC
) -> float | None:
    """Calls a second of one process a message, `in_flight` calls together. None: h2load is not installed.

    gRPC's calls share one connection a process, JSON's have one each. Raises RuntimeError where it fails.
    """
    program = shutil.which("h2load")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ending:
        running = []
        for number, message in enumerate(messages):
            body = Path(folder) / str(number)
            body.write_bytes(message)
            each = in_flight // len(messages)
            connections = ("-c1", f"-m{each}") if kind is GRPC else (f"-c{each}", "-m1")
            time = (f"-D{max(LEAST_SECONDS, round(seconds))}", "--warm-up-time=1")
            command = [program, *connections, *time, f"-d{body}", *kind, url]
            process = ending.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            )
            ending.callback(process.kill)  # where it has not ended by itself
            running.append(process)
        try:
            outputs = [process.communicate(timeout=seconds + SPARE_SECONDS)[0] for process in running]
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"h2load did not end {SPARE_SECONDS} s after its time") from None
    rates = []
    for process, output in zip(running, outputs, strict=True):
        found = RATE.search(output)
        if process.returncode or found is None:
            raise RuntimeError(f"h2load failed: {output.strip()[-200:]}")
        rates.append(float(found[1]))
    return sum(rates)
