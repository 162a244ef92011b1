"""A run's folder: what a person reads (audit, metrics, curves, progress) and where its checkpoints lie.

Knows nothing of tensors. Files: recipe.json, audit.json, metrics.csv, layers.csv, curves.png, layers.png,
tensorboard/, checkpoint.safetensors (to go on), lessons.safetensors (what teachers said), best.safetensors
(to export), of `evaluate` scores-SPLIT.json and scores-SPLIT-beam-K.json, and of `calibrate`
reliability-SPLIT.png.
"""

import csv
import fcntl
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

from training.atomic import write_atomically
from training.recipe import Recipe

READ = ("recipe.json", "audit.json", "metrics.csv", "layers.csv", "curves.png", "layers.png")  # by people
Row = dict[str, Any]
Item = TypeVar("Item")


class RunFolderError(RuntimeError):
    """Nobody can train in this folder: another process does, or the files in it are somebody's."""


class RunFolder:
    """One folder, held by one trainer at a time. Where it does not write, its methods do nothing."""

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.checkpoint = path / "checkpoint.safetensors"
        self.best = path / "best.safetensors"
        self.lessons = path / "lessons.safetensors"
        self.console = Console(stderr=True, quiet=not writes)
        self._tensorboard: Any = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other trainers out. The kernel lets go of the lock however this process ends."""
        if not self.writes:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        strange = [name for name in READ if (self.path / name).exists()]
        if strange and not _is_recipe(self.path / "recipe.json"):
            raise RunFolderError(f"{self.path}: no run's folder, yet it has {strange[0]}: use another one")
        descriptor = os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise RunFolderError(f"{self.path}: another process is training here") from error
        try:
            yield
        finally:
            os.close(descriptor)

    def start(self, recipe: Recipe, audit: dict[str, object], progress: Row) -> None:
        """Writes the configuration and what the audit of the data found, and says the latter.

        Opens TensorBoard's log at the end of a history, dropping what a killed run wrote after it.
        """
        if not self.writes:
            return
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only training needs it

        write_atomically(self.path / "recipe.json", _json(msgspec.to_builtins(recipe)))
        write_atomically(self.path / "audit.json", _json(audit))
        for name, found in audit.items():
            self.say(f"{name}: {_shortened(found)}")
        history = progress["history"]
        step = history[-1]["step"] if history else 0
        self._tensorboard = SummaryWriter(str(self.path / "tensorboard"), purge_step=step + 1)
        self._write_rows("metrics.csv", history)
        self._write_rows("layers.csv", progress["layers"])

    def write_epoch(self, history: list[Row], layers: list[Row]) -> None:
        """Adds an epoch to the two tables and TensorBoard, draws the curves again, prints a line."""
        if not self.writes:
            return
        row = history[-1]
        self._write_rows("metrics.csv", history)
        self._write_rows("layers.csv", layers)
        for name, value in row.items():
            if name not in ("epoch", "step"):
                self._tensorboard.add_scalar(name, value, row["step"])
        self._tensorboard.flush()
        self._draw_curves(history, layers)
        self.say(
            f"epoch {row['epoch']}  loss {row['train_loss']:.4f}  dev WER {row['dev_wer']:.2f} %  "
            f"PER {row['dev_per']:.2f} %  {row['tokens_per_second']:.0f} tokens/s  "
            f"clipped {100 * row['steps_clipped_by_norm']:.0f} % of steps by norm, "
            f"{100 * row['steps_clipped_by_value']:.0f} % by value"
        )

    def _write_rows(self, name: str, rows: list[Row]) -> None:
        """Rewrites a file whole, so that it never holds rows that a resumed run did not see."""
        if not rows:
            (self.path / name).unlink(missing_ok=True)
            return
        write_atomically(self.path / name, csv_bytes(rows))

    def _draw_curves(self, history: list[Row], layers: list[Row]) -> None:
        from training.plots import draw_layers, draw_training  # slow to import, and only training needs it

        write_atomically(self.path / "curves.png", draw_training(history))
        write_atomically(self.path / "layers.png", draw_layers(layers))

    def write_scores(self, split: str, scores: dict[str, Any]) -> None:
        """Keeps a split's final figures, for the model card."""
        write_atomically(self.path / f"scores-{split}.json", _json(scores))

    def say(self, text: str) -> None:
        """Prints one line to stderr, however wide, above the progress bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self, total_steps: int) -> Iterator["StepBar"]:
        """A progress bar on a terminal; nothing elsewhere."""
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as bar:
            yield StepBar(bar, total_steps)

    def tracked(self, items: Sequence[Item], text: str) -> Iterable[Item]:
        """The items, with a bar on a terminal that says how many are done."""
        return track(items, text, console=self.console, disable=not self.console.is_terminal)


class StepBar:
    """How far the run is, in steps, with the epoch's loss so far."""

    def __init__(self, bar: Progress, total_steps: int) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total_steps)

    def update(self, step: int, tally: Row) -> None:
        """Shows a step; the tally is empty right after an epoch's end."""
        loss = tally["loss"] / max(tally["tokens"], 1)
        self._bar.update(self._task, completed=step, description=f"loss {loss:.3f}")


def _is_recipe(path: Path) -> bool:
    """Whether a run began with this file."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return False
    return {"card", "data", "model", "training"} <= found.keys()


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def _shortened(found: object) -> str:
    if isinstance(found, dict):
        found = {key: f"{len(value)}" if isinstance(value, list) else value for key, value in found.items()}
        return ", ".join(f"{key} {value}" for key, value in found.items() if key != "sha256")
    if isinstance(found, list):
        return "; ".join(map(_shortened, found))
    return str(found)


def csv_bytes(rows: Sequence[Row]) -> bytes:
    """A header of the first row's keys, then all rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
