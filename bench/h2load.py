"""A second opinion on the client of load: h2load, which is written in C, where it is installed.

It sends one fixed message a process and cannot see a gRPC status, so it measures nothing here alone: several
processes send one word each, and what they reach together is set against the figure of bench/http2.py.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "grpc-timeout: 10S")
JSON = ("-H", "content-type: application/json", "--h1")
RATE = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")
LEAST_SECONDS = 1  # it counts in whole ones


def calls_s(
    url: str, messages: Sequence[bytes], in_flight: int, seconds: float, kind: Sequence[str] = GRPC
) -> float | None:
    """Calls a second of one process a message, `in_flight` calls together. None: h2load is not installed.

    gRPC's calls share one connection a process, JSON's have one each. Raises RuntimeError where it fails.
    """
    program = shutil.which("h2load")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        running = []
        for number, message in enumerate(messages):
            body = Path(folder) / str(number)
            body.write_bytes(message)
            each = in_flight // len(messages)
            connections = ("-c1", f"-m{each}") if kind is GRPC else (f"-c{each}", "-m1")
            time = (f"-D{max(LEAST_SECONDS, round(seconds))}", "--warm-up-time=1")
            command = [program, *connections, *time, f"-d{body}", *kind, url]
            running.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            )
        outputs = [process.communicate(timeout=seconds + 60)[0] for process in running]
    found = [RATE.search(output) for output in outputs]
    if any(process.returncode for process in running) or None in found:
        raise RuntimeError(f"h2load failed: {outputs[0].strip()[-200:]}")
    return sum(float(match[1]) for match in found if match)
