"""What decoding costs without a server: words a second, a step, and the floor under a step.

Run as `python -m bench.offline FOLDER`, a process of its own with one thread; it prints figures as JSON. The
service's own scheduler and engine decode here, fed in place of its front. Letters: R rows.
"""

import argparse
import itertools
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from bench.plain_loop import PlainLoop
from bench.products import product_graph, shapes
from bench.words import choose
from bundle.reader import Bundle, read_bundle
from service.messages import News
from service.opening import AnyEngine, open_engine
from service.options import Options
from service.scheduler import Scheduler
from service.sequence import Sequence as Decoded
from service.settings import Settings
from service.waiting import Waiting

ROWS = (1, 8, 32, 128, 256)
BATCHES = (32, 256)  # of the plain loop
WORDS = 2048
STEP_SHARE = 0.2  # of a measure's time, for a step alone
LEAST_STEPS = 5


def main() -> int:
    """Prints the figures of every profile. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.offline")
    parser.add_argument("folder", type=Path, help="folder of a bundle")
    parser.add_argument("--seconds", type=float, default=1.0, help="time of each measure")
    parser.add_argument("--words", type=Path, help="file of words, one a line")
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser talks
    bundle = read_bundle(options.folder)
    limit = bundle.manifest.limits.max_source_length
    sources = [bundle.source.encode(word) for word in choose(options.words, WORDS, limit)]
    figures: dict[str, float] = {}
    for profile in bundle.manifest.profiles:
        for rows in ROWS:
            engine, _ = open_engine(bundle, profile.name, rows, "cpu", 1)
            engine.warm_up()
            key = f"{profile.name}.{rows}"
            figures[f"engine.step_us.{key}"] = step_us(engine, sources, options.seconds * STEP_SHARE)
            figures[f"floor.step_us.{key}"] = floor_us(
                bundle, profile.name, rows, options.seconds * STEP_SHARE
            )
            figures[f"offline.words_s.{key}"] = words_s(engine, sources, bundle, options.seconds)
    if 256 in ROWS:
        figures["floor.step_us.256"] = figures[f"floor.step_us.{bundle.manifest.profile('').name}.256"]
    if any(profile.name == "fp32" for profile in bundle.manifest.profiles):
        figures |= plain_loop(bundle, sources, options.seconds)
    json.dump(figures, sys.stdout)
    return 0


def words_s(engine: AnyEngine, sources: Sequence[Sequence[int]], bundle: Bundle, seconds: float) -> float:
    """Words a second through the service's scheduler, with twice as many waiting as there are rows."""
    scheduler = Scheduler(engine, Waiting(), Settings().encode_tokens)
    options = Options(max_length=bundle.manifest.limits.max_target_length)
    numbers = itertools.count()
    endless = itertools.cycle(sources)
    ended = 0
    began = now = time.perf_counter()
    while now - began < seconds:
        while len(scheduler.waiting) < 2 * engine.rows:
            scheduler.submit([Decoded(next(numbers), list(next(endless)), options, float("inf"), 0.0)])
        scheduler.tick()
        ended += len(scheduler.news.ended)
        scheduler.news = News()
        now = time.perf_counter()
    return ended / (now - began)


def step_us(engine: AnyEngine, sources: Sequence[Sequence[int]], seconds: float) -> float:
    """Microseconds of one step with every row in use: the median."""
    engine.encode(sources[: engine.rows], range(engine.rows))
    return median_us(lambda: engine.step(engine.rows), seconds)


def floor_us(bundle: Bundle, profile: str, rows: int, seconds: float) -> float:
    """Microseconds of the matrix products of one step, in the numbers of the profile: the median."""
    integer = profile == "int8"
    sides = shapes(bundle.graphs[bundle.manifest.profile(profile).decoder.file])
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(product_graph(sides, integer), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    random = np.random.default_rng(2)
    arrays = []
    for i, (k, n) in enumerate(sides):
        x = random.integers(1, 255, (rows, k)).astype(np.uint8 if integer else np.float32)
        y = np.zeros((rows, n), np.int32 if integer else np.float32)
        binding.bind_input(f"x_{i}", "cpu", 0, x.dtype, x.shape, x.ctypes.data)
        binding.bind_output(f"y_{i}", "cpu", 0, y.dtype, y.shape, y.ctypes.data)
        arrays += [x, y]  # kept alive: the binding holds addresses
    return median_us(lambda: session.run_with_iobinding(binding), seconds)


def plain_loop(bundle: Bundle, sources: Sequence[Sequence[int]], seconds: float) -> dict[str, float]:
    """Words a second of the loop that others would write, for each size of batch, and the best of them."""
    with tempfile.TemporaryDirectory() as folder:
        loop = PlainLoop(bundle, Path(folder))
    figures = {}
    for batch in BATCHES:
        loop.decode(sources[:batch], batch)
        passes = list(repeated(lambda batch=batch: loop.decode(sources, batch), seconds))  # type: ignore[misc]
        figures[f"dynamic.words_s.{batch}"] = len(sources) * len(passes) / sum(passes)
    return {**figures, "dynamic.words_s": max(figures.values())}


def median_us(work: Callable[[], object], seconds: float) -> float:
    """Of repeated runs, after one that does not count."""
    work()
    return statistics.median(repeated(work, seconds)) * 1e6


def repeated(work: Callable[[], object], seconds: float) -> Iterator[float]:
    """Seconds of each of the runs that fit into a time, a few at least."""
    stop = time.perf_counter() + seconds
    done, began = 0, 0.0
    while done < LEAST_STEPS or began < stop:
        began = time.perf_counter()
        work()
        yield time.perf_counter() - began
        done += 1


if __name__ == "__main__":
    sys.exit(main())
