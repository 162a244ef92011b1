"""How fast the graphs are on the machine that exports them, for the model card: ONNX Runtime on one thread.

What serves a model may be faster: more threads, or kernels of its own beside the graphs.
"""

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from bundle.card import Speed, Timing
from bundle.values import UNKNOWN_ID
from export.profiles import Exported
from export.runtime import VERSION

ROWS = (1, 32)
SOURCE_LENGTH = 8  # tokens, or as many as a model takes
WARM_UPS, RUNS = 3, 30  # of which the median counts


def measure_speed(profiles: Sequence[Exported], max_source_length: int) -> Speed:
    """Each profile's encoder and decoder, with few rows and with many."""
    length = min(SOURCE_LENGTH, max_source_length)
    return Speed(
        machine=processor(),
        runtime=f"ONNX Runtime {VERSION}",
        threads=1,
        source_length=length,
        timings=tuple(_timing(one, rows, length) for one in profiles for rows in ROWS),
    )


def _timing(exported: Exported, rows: int, length: int) -> Timing:
    graphs, sources, tokens = exported.graphs, [[UNKNOWN_ID] * length] * rows, np.full(rows, UNKNOWN_ID)
    state = graphs.encode(sources)
    encoding = _microseconds(lambda: graphs.encode(sources))
    step = _microseconds(lambda: graphs.step(["next_token", "next_score"], tokens, state))
    return Timing(
        profile=exported.name,
        rows=rows,
        source_microseconds=round(encoding / rows, 1),
        step_microseconds=round(step, 1),
    )


def _microseconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    seconds = []
    for _ in range(WARM_UPS + RUNS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return 1e6 * median(seconds[WARM_UPS:])


def processor() -> str:
    """The processor by its name, where Linux knows it, else its kind."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(filter(None, names), platform.machine())
