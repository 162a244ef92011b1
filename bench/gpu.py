"""What Chairlift does on a GPU, in one run: `python -m bench.gpu` writes gpu.json and gpu.md.

Steps by rows beside their floor and PyTorch's; rows that come and go against whole batches, by themselves and
through the service; every word's tokens against the CPU's; rows that move with what they look back on, and
beams; drills of what may go wrong. With `--device cpu --quick` all of it runs small, on a machine without a
GPU. What is found is written at once.
"""

import argparse
import importlib.metadata
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import parts
from bench.answers import CloseMarks, Marks
from bench.bench import Bench
from bench.gpu_answers import compare_batching, compare_company, compare_words
from bench.gpu_drills import run_drills
from bench.gpu_steps import RandomBundle, measure_steps
from bench.machine import describe
from bench.repositories import copy_model
from bench.words import choose, read_words
from bundle.reader import Bundle, read_bundle
from service.device_engine import DeviceEngine
from service.opening import AnyEngine, open_engine

Figures = dict[str, Any]
MOST_OTHERS = 0.05  # of the words' tokens: near ties may be decided otherwise, and no more
VERSIONS = ("onnxruntime-gpu", "onnxruntime", "torch", "nvidia-cudnn-cu13", "nvidia-cublas")


def main(arguments: Sequence[str]) -> int:
    """Runs the parts that are asked for. Returns 0, or 1 where a part failed or a promise was not kept."""
    options = _parser().parse_args(arguments)
    options.to.mkdir(parents=True, exist_ok=True)
    figures: Figures = {"about": about(options)}
    for name in options.only or PARTS:
        began = time.monotonic()
        try:
            for found in PARTS[name](options):
                figures |= found
                _write(options.to, figures)
        except Exception as error:  # the other parts are wanted all the same
            traceback.print_exc()
            figures[f"{name}.failed"] = f"{type(error).__name__}: {error}"
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        _write(options.to, figures)
    print((options.to / "gpu.md").read_text(encoding="utf-8"))
    return 1 if any(key.endswith(".failed") for key in figures) or _broken(figures) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--device", choices=["cuda", "cpu"], default="cuda", help="default: %(default)s")
    add("--quick", action="store_true", help="small sizes, short measures")
    add("--only", action="append", choices=PARTS, help="one part; may be given again (default: all)")
    add("--models", type=Path, default=Path("models"), help="model repository (default: %(default)s)")
    add("--bundle", type=Path, default=Path("models/g2p-en/1"), help="for words (default: %(default)s)")
    add(
        "--attending",
        type=Path,
        default=Path("models/names-ar-en/2"),
        help="for company: a bundle with attention (default: %(default)s)",
    )
    add("--words", type=Path, help="file of words, one a line or before a tab (default: made-up ones)")
    add("--rows", type=int, default=512, help="rows of the engine that is compared (default: %(default)s)")
    add("--seconds", type=float, default=4.0, help="of a measure of the service (default: %(default)s)")
    add("--to", type=Path, default=Path("build/gpu"), help="folder of both files (default: %(default)s)")
    return parser


def about(options: argparse.Namespace) -> dict[str, str]:
    """The machine, and what runs on it."""
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    found = {"device": options.device, **describe(), "packages": ", ".join(map(" ".join, versions.items()))}
    if options.device == "cuda":
        import torch

        try:
            found["GPU"] = f"{torch.cuda.get_device_name(0)}; PyTorch for CUDA {torch.version.cuda}"
        except (AssertionError, RuntimeError) as error:  # the drills are for such a machine, too
            found["GPU"] = f"none that PyTorch sees: {str(error).splitlines()[0]}"
    return found


def _steps(options: argparse.Namespace) -> Iterator[Figures]:
    yield from measure_steps(options.device, options.quick, 0.02 if options.quick else 0.2)


def _batching(options: argparse.Namespace) -> Iterator[Figures]:
    sizes, rows = ((32, 45), 8) if options.quick else ((512, 8192), options.rows)
    bundle = RandomBundle(*sizes)
    engine = DeviceEngine(bundle, "fp32", rows, options.device)  # type: ignore[arg-type]
    engine.warm_up()
    yield compare_batching(engine, bundle.vocabulary.source_size, 0.3 if options.quick else options.seconds)


def _words(options: argparse.Namespace) -> Iterator[Figures]:
    bundle = read_bundle(options.bundle)
    words = read_words(options.words) if options.words else choose(None, 2048, 24)
    words = words[:64] if options.quick else words
    names = [p.name for p in bundle.manifest.profiles if p.name != "int8"]
    for name in [*names, "tf32"] if "fp32" in names else names:
        profile, tf32 = ("fp32", True) if name == "tf32" else (name, False)
        yield {f"words.{name}": compare_words(bundle, _on_device(options, bundle, profile, tf32), words)}


def _company(options: argparse.Namespace) -> Iterator[Figures]:
    bundle = read_bundle(options.attending)
    yield compare_company(bundle, _on_device(options, bundle, "fp32"), 100 if options.quick else 5000)


def _on_device(options: argparse.Namespace, bundle: Bundle, profile: str, tf32: bool = False) -> AnyEngine:
    """An engine on the device, warm."""
    if options.device == "cpu":
        rows = 16 if options.quick else options.rows
        engine: AnyEngine = DeviceEngine(bundle, profile, rows, "cpu", tf32=tf32)
    else:
        engine, _ = open_engine(bundle, profile, options.rows, "cuda", 1, tf32=tf32)
    engine.warm_up()
    return engine


def _service(options: argparse.Namespace) -> Iterator[Figures]:
    """The bench's own mix of short and long answers, with both kinds of engine on the device."""
    os.environ["CHAIRLIFT_DEVICE"], os.environ["CHAIRLIFT_PROFILE"] = options.device, "fp32"
    marks = CloseMarks() if options.device == "cuda" else Marks()
    try:
        seconds = 0.3 if options.quick else options.seconds
        with Bench(options.models, _name(options.bundle), options.words, seconds, marks=marks) as bench:
            for measure in (parts.measure_mix, parts.measure_lists):
                measure(bench)
                yield {f"service.{key}": value for key, value in bench.figures.items()} | _marked(marks)
            yield {"service.mix.ratio": bench.figures["mix.rps"] / bench.figures["mix.baseline_rps"]}
    finally:
        del os.environ["CHAIRLIFT_DEVICE"], os.environ["CHAIRLIFT_PROFILE"]


def _marked(marks: Marks) -> Figures:
    """What was wrong with the service's answers so far."""
    found: Figures = {}
    if isinstance(marks, CloseMarks):
        marks.settle()
        found["service.largest_score_difference"] = marks.score_difference
    return found | {"service.wrong_answers": marks.wrong, "service.failed_calls": marks.failed.total()}


def _drills(options: argparse.Namespace) -> Iterator[Figures]:
    with tempfile.TemporaryDirectory() as folder:  # the promises are counted by model
        copy_model(options.models, _name(options.bundle), Path(folder))
        found: Figures = {}
        for name, seen in run_drills(Path(folder), options.device):
            found[name] = seen
            yield {"drills": found}


def _name(bundle: Path) -> str:
    return f"{bundle.parent.name}/{bundle.name}"


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Figures]]] = {
    "steps": _steps,
    "batching": _batching,
    "words": _words,
    "company": _company,
    "service": _service,
    "drills": _drills,
}


def _broken(figures: Figures) -> bool:
    """Whether an answer was wrong, a call failed or a drill's promise was not kept."""
    none = ("company.other_tokens", "service.wrong_answers", "service.failed_calls")
    few = [(found["other_tokens"], found["words"]) for name, found in figures.items() if _of_words(name)]
    few.append((figures.get("company.other_beams", 0), figures.get("company.beams", 1)))
    return (
        any(figures.get(name) for name in none)
        or any(others > MOST_OTHERS * words for others, words in few)
        or any(not drill["kept"] for drill in figures.get("drills", {}).values())
    )


def _of_words(name: str) -> bool:
    return name.startswith("words.") and not name.endswith(".failed")


def _write(folder: Path, figures: Figures) -> None:
    (folder / "gpu.json").write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (folder / "gpu.md").write_text(_page(figures), "utf-8")


def _page(figures: Figures) -> str:
    lines = ["# On a GPU", "", *(f"- {key}: {value}" for key, value in figures["about"].items())]
    lines += [f"- {key}: {why.splitlines()[0]}" for key, why in figures.items() if key.endswith(".failed")]
    lines += _step_table(figures)
    lines += ["", "| figure | value |", "| --- | ---: |"]
    for key, value in figures.items():
        if isinstance(value, int | float) and not key.startswith("step."):
            lines.append(f"| {key} | {value:,.4g} |")
    for key, found in figures.items():
        if _of_words(key):
            lines += [
                "",
                f"{key}: {found['other_tokens']} of {found['words']:,} words with other tokens than",
            ]
            lines += [
                f"the CPU's in float32; largest score difference {found['largest_score_difference']:.2g}."
            ]
    if drills := figures.get("drills"):
        lines += ["", "| drill | promised | kept |", "| --- | --- | --- |"]
        lines += [f"| {name} | {seen['promised']} | {seen['kept']} |" for name, seen in drills.items()]
    return "\n".join(lines) + "\n"


def _step_table(figures: Figures) -> list[str]:
    """Microseconds of a step by size, rows and profile, and the two ratios that matter."""
    ways = ("floor", "replay", "step", "tf32", "binding", "plain", "torch", "torch_graph")
    points = [key[5:-9] for key in figures if key.startswith("step.") and key.endswith(".floor_us")]
    head = ["H/V, rows, profile", *ways, "replay / floor", "torch / step"]
    lines = ["", f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    for point in points:
        us = {way: figures[key] for way in ways if (key := f"step.{point}.{way}_us") in figures}
        cells = [f"{us[way]:,.1f}" if way in us else "" for way in ways]
        for one, other in (("replay", "floor"), ("torch", "step")):
            cells.append(f"{us[one] / us[other]:.2f}" if {one, other} <= us.keys() else "")
        lines.append(f"| {point.replace('.', ', ')} | {' | '.join(cells)} |")
    return lines if points else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
