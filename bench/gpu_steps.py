"""What a decoder step takes on a device, by rows: in each way to run it, beside its floor and PyTorch's step.

Random networks of three sizes; nothing of them but their sizes matters. Letters: R rows, E embedding,
H hidden, V tokens, K and N the sides of a weight. Times are medians in microseconds.
"""

import functools
import itertools
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from bench.offline import median_us
from bench.products import shapes
from bundle.graphs import decoder_graph, encoder_graph
from bundle.manifest import Architecture, Limits, Profile, Vocabulary
from bundle.values import ProfileName
from export.profiles import build_graphs
from service.device_engine import DeviceEngine
from service.device_sessions import NO_GRAPH, run_options
from training.model import Seq2Seq
from training.recipe import Model

SIZES = ((256, 45), (512, 8192), (1024, 32_000))  # H and V, of two layers
ROWS = (1, 8, 64, 256, 512, 1024, 2048)
QUICK_SIZES, QUICK_ROWS = ((32, 45),), (1, 6)
SOURCES = 30  # tokens of a source
TOP = 8
DTYPES: dict[ProfileName, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}  # of products
PLAIN_MOST = 64 << 20  # bytes of a step's outputs, above which nobody would take them all to the host
Figures = dict[str, float]


class RandomBundle:
    """As much of a bundle as an engine looks at, in one profile."""

    def __init__(self, hidden: int, emitted: int, profile: ProfileName = "fp32") -> None:
        sizes = Model(embedding_size=hidden // 2, hidden_size=hidden, encoder_layers=2, decoder_layers=2)
        torch.manual_seed(1)
        network = Seq2Seq(SOURCES, emitted + 1, sizes)
        architecture = Architecture(
            cell="lstm",
            encoder_layers=2,
            decoder_layers=2,
            embedding_size=hidden // 2,
            hidden_size=hidden,
            encoder_hidden_size=hidden,
            bidirectional=False,
            attention="none",
            input_feeding=False,
            context="first-step",
            parameters=sum(parameter.numel() for parameter in network.parameters()),
        )
        vocabulary = Vocabulary(
            source_size=SOURCES,
            target_size=emitted + 1,
            source_pad_id=0,
            source_unknown_id=1,
            start_id=emitted,
            end_id=0,
            unknown_id=1,
        )
        self.manifest = self
        self.vocabulary = vocabulary
        self.limits = Limits(max_source_length=16, max_target_length=64)
        self._profile = Profile(
            name=profile,
            score_tolerance=1e-4,
            encoder=encoder_graph(architecture, profile),
            decoder=decoder_graph(architecture, vocabulary, profile),
        )
        encoder, decoder = build_graphs(profile, network, architecture, vocabulary, 16)
        self.decoder = decoder
        self.graphs = {self._profile.encoder.file: encoder, self._profile.decoder.file: decoder}

    def profile(self, _: str) -> Profile:
        """The only one."""
        return self._profile


class TorchStep(torch.nn.Module):
    """The same step in PyTorch: its LSTM, which on a GPU is cuDNN's, and the same choice at the end."""

    def __init__(self, hidden: int, emitted: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(emitted + 1, hidden // 2)
        self.lstm = torch.nn.LSTM(hidden // 2, hidden, 2)
        self.output = torch.nn.Linear(hidden, emitted)

    def forward(self, token: torch.Tensor, state: Any) -> Any:
        """token [R], h and c [2, R, H] -> the best token [R], its score, the best few, all scores, state."""
        x, state = self.lstm(self.embedding(token)[None], state)
        logits = self.output(x[0])  # [R, V]
        every = torch.log_softmax(logits, 1, torch.float32)
        scores, tokens = every.topk(min(TOP, every.shape[1]), 1)
        return logits.argmax(1), scores[:, 0], tokens, scores, every, state


def measure_steps(device: str, quick: bool, seconds: float) -> Iterator[Figures]:
    """The figures of one size and number of rows after the other; first, what the device can do."""
    torch.set_num_threads(1)
    rates = machine_rates(device, quick)
    yield rates
    every = QUICK_ROWS if quick else ROWS
    for (hidden, emitted), profile in itertools.product(QUICK_SIZES if quick else SIZES, DTYPES):
        bundle = RandomBundle(hidden, emitted, profile)
        engines = {
            name: DeviceEngine(bundle, profile, max(every), device, tf32=name == "tf32")  # type: ignore[arg-type]
            for name in (["step", "tf32"] if profile == "fp32" else ["step"])
        }
        sides = shapes(bundle.decoder)
        for rows in every:
            key = f"2x{hidden}/{emitted}.{rows}.{profile}"
            torchs = theirs(device, hidden, emitted, rows, DTYPES[profile], seconds)
            yield {f"step.{key}.floor_us": floor_us(sides, rows, rates, profile)}
            for way, engine in engines.items():
                yield {f"step.{key}.{way}_us": whole_step_us(engine, rows, seconds)}
            found = parts_of_step(engines["step"], bundle, rows, seconds)
            yield {f"step.{key}.{name}_us": us for name, us in found.items()}
            yield {f"step.{key}.{name}_us": us for name, us in torchs}
        del engines, engine


def whole_step_us(engine: DeviceEngine, rows: int, seconds: float) -> float:
    """A captured step of all rows, with tokens and scores read."""
    engine.encode([[2, 3]] * rows, range(rows))
    for _ in range(4):  # both sets are captured, and replayed once
        engine.step(rows)
    return median_us(lambda: engine.step(rows), seconds)


def parts_of_step(engine: DeviceEngine, bundle: RandomBundle, rows: int, seconds: float) -> Figures:
    """ONNX Runtime alone, after `whole_step_us`: state over the host; bound in place; captured."""
    bound, decoder = engine._bound(rows), engine._sessions.decoder
    skip = run_options(NO_GRAPH)
    found = {
        "binding": median_us(lambda: decoder.run_with_iobinding(bound.binding, skip), seconds),
        "replay": median_us(lambda: decoder.run_with_iobinding(bound.binding, bound.options), seconds),
    }
    if rows * bundle.vocabulary.start_id * 4 <= PLAIN_MOST:
        feeds = {
            tensor.name: np.zeros((rows, *map(int, tensor.shape[1:])), tensor.dtype)
            for tensor in bundle.profile("").decoder.inputs
        }
        found["plain"] = median_us(lambda: decoder.run(None, feeds, skip), seconds)
    return found


def theirs(
    device: str, hidden: int, emitted: int, rows: int, dtype: torch.dtype, seconds: float
) -> Iterator[tuple[str, float]]:
    """PyTorch, as it is and as a CUDA graph; best tokens and scores are read as ours are."""
    step = TorchStep(hidden, emitted).to(device, dtype).eval()
    token = torch.zeros(rows, dtype=torch.int64, device=device)
    state = tuple(torch.zeros(2, rows, hidden, device=device, dtype=dtype) for _ in range(2))

    def eager() -> None:
        best, score, *_ = step(token, state)
        best.cpu(), score.cpu()

    with torch.inference_mode():
        yield "torch", median_us(eager, seconds)
        if device != "cuda":
            return
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                step(token, state)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            best, score, *_ = step(token, state)

        def replay() -> None:
            graph.replay()
            best.cpu(), score.cpu()

        yield "torch_graph", median_us(replay, seconds)


def machine_rates(device: str, quick: bool) -> Figures:
    """What the device does at its best: bytes read and written a second, operations a second by profile."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    size, side = (1 << 20, 256) if quick else (1 << 28, 8192)
    one, other = (torch.ones(size // 4, device=device) for _ in range(2))
    found = {"rate.bytes_s": 2 * size / _seconds(device, lambda: one.copy_(other))}
    for profile, dtype in DTYPES.items():
        a, b, out = (torch.rand(side, side, device=device).to(dtype) for _ in range(3))
        run = functools.partial(torch.mm, a, b, out=out)
        found[f"rate.{profile}.flops_s"] = 2 * side**3 / _seconds(device, run)
    return found


def floor_us(sides: list[tuple[int, int]], rows: int, rates: Figures, profile: ProfileName) -> float:
    """No step is faster than its products: all read and written once, or all computed, whatever is longer."""
    size = DTYPES[profile].itemsize * sum(k * n + rows * (k + n) for k, n in sides)
    operations = 2 * rows * sum(k * n for k, n in sides)
    return 1e6 * max(size / rates["rate.bytes_s"], operations / rates[f"rate.{profile}.flops_s"])


def _seconds(device: str, work: Callable[[], object]) -> float:
    """Of one run: the median of a few, timed on the device's own clock where it has one."""
    times: list[float] = []
    for _ in range(8):
        if device == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
        else:
            times.append(median_us(work, 0) / 1e6)
    return statistics.median(times[1:])
