"""A run's folder: what a person reads (audit, metrics, curves, progress) and where its checkpoints lie.

Knows nothing of tensors. Files: recipe.json, audit.json, metrics.csv, curves.png, tensorboard/,
checkpoint.safetensors (to go on), best.safetensors (to export), scores-SPLIT.json (from evaluate).
"""

import csv
import fcntl
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.atomic import write_atomically
from training.recipe import Recipe

Row = dict[str, Any]


class RunFolderBusyError(RuntimeError):
    """Another process is training in this folder."""


class RunFolder:
    """One folder, held by one trainer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.safetensors"
        self.best = path / "best.safetensors"
        self.console = Console(stderr=True)
        self._tensorboard: Any = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other trainers out. The kernel lets go of the lock however this process ends."""
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise RunFolderBusyError(f"{self.path}: another process is training here") from error
        try:
            yield
        finally:
            os.close(descriptor)

    def start(self, recipe: Recipe, audit: dict[str, object], history: list[Row]) -> None:
        """Writes the configuration and what the audit of the data found, and says the latter.

        Opens TensorBoard's log at the end of a history, dropping what a killed run wrote after it.
        """
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only training needs it

        write_atomically(self.path / "recipe.json", _json(msgspec.to_builtins(recipe)))
        write_atomically(self.path / "audit.json", _json(audit))
        for name, found in audit.items():
            self.say(f"{name}: {_shortened(found)}")
        step = history[-1]["step"] if history else 0
        self._tensorboard = SummaryWriter(str(self.path / "tensorboard"), purge_step=step + 1)
        self._write_metrics(history)

    def write_epoch(self, history: list[Row]) -> None:
        """Adds an epoch's row to metrics.csv and TensorBoard, redraws the curves, prints a line."""
        row = history[-1]
        self._write_metrics(history)
        for name, value in row.items():
            if name not in ("epoch", "step"):
                self._tensorboard.add_scalar(name, value, row["step"])
        self._tensorboard.flush()
        self._draw_curves(history)
        self.say(
            f"epoch {row['epoch']}  loss {row['train_loss']:.4f}  dev WER {row['dev_wer']:.2f} %  "
            f"PER {row['dev_per']:.2f} %  {row['tokens_per_second']:.0f} tokens/s  "
            f"clipped {100 * row['steps_clipped_by_norm']:.0f} % of steps by norm, "
            f"{100 * row['steps_clipped_by_value']:.0f} % by value"
        )

    def _write_metrics(self, history: list[Row]) -> None:
        """Rewrites metrics.csv whole, so that it never holds rows that a resumed run did not see."""
        if not history:
            (self.path / "metrics.csv").unlink(missing_ok=True)
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_atomically(self.path / "metrics.csv", text.getvalue().encode())

    def _draw_curves(self, history: list[Row]) -> None:
        """Draws loss, dev errors, and gradient norms with clip shares over the epochs."""
        from matplotlib.figure import Figure  # slow to import; the figure needs no screen

        figure = Figure(figsize=(12, 3.6), layout="constrained")
        epochs = [row["epoch"] for row in history]
        panels = (
            ("Training loss, nats a token", ("train_loss",)),
            ("Dev error, percent", ("dev_wer", "dev_per")),
            ("Gradient norm before clipping", ("gradient_norm_mean", "gradient_norm_max")),
            ("Share of clipped steps", ("steps_clipped_by_norm", "steps_clipped_by_value")),
        )
        for axes, (title, names) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            for name in names:
                axes.plot(epochs, [row[name] for row in history], label=name.replace("_", " "))
            axes.set(title=title, xlabel="epoch")
            axes.title.set_fontsize(10)
            axes.grid(alpha=0.3)
            axes.legend(fontsize=7)
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=110)
        write_atomically(self.path / "curves.png", image.getvalue())

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


class StepBar:
    """How far the run is, in steps, with the epoch's loss so far."""

    def __init__(self, bar: Progress, total_steps: int) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total_steps)

    def update(self, step: int, tally: dict[str, float]) -> None:
        """Shows a step; the tally is empty right after an epoch's end."""
        loss = tally["loss"] / max(tally["tokens"], 1)
        self._bar.update(self._task, completed=step, description=f"loss {loss:.3f}")


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def _shortened(found: object) -> str:
    if isinstance(found, dict):
        found = {key: f"{len(value)}" if isinstance(value, list) else value for key, value in found.items()}
        return ", ".join(f"{key} {value}" for key, value in found.items() if key != "sha256")
    return str(found)
