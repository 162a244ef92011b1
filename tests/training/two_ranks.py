"""Program for test_ranks, started twice by torchrun: two_ranks.py RECIPE FOLDER trains into FOLDER's folders.

`plain` and `unweighted` draw nothing at random while they train; in `unweighted` each process takes the mean
over its own tokens. `whole` and `stopped` have dropout and a teacher; `stopped` is asked to stop, one of its
processes alone, while the teacher is asked and again in a step, goes on and ends. By their clocks a step
takes the first process a second of computing, the second one two.
"""

import os
import signal
import sys
import time
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch.utils.tensorboard  # noqa: F401 (slow: before the first run)

from training import __main__ as program
from training import teaching, trainer
from training.checkpoint import load_checkpoint
from training.ranks import joined
from training.report import RunFolder

QUIET = (
    "training.epochs=1",
    "model.dropout=0.0",
    "training.word_dropout=0.0",
    "training.scheduled_sampling=0.0",
    "training.precision=32-true",
    "training.bucket_width=4",
    "training.batch_size=5",
    "training.clip_value=0.0",
)


def train(recipe: str, folder: Path, *changes: str, teacher: Path | None = None) -> None:
    """One run, as the command line starts it."""
    more = [word for change in changes for word in ("--set", change)]
    more += ["--teacher", str(teacher)] if teacher else []
    assert program.main([recipe, "--run", str(folder), "--threads", "1", "--device", "cpu", *more]) == 0


def unweighted(*arguments: Any) -> float:
    """As `add_gradients`, by this process's tokens alone."""
    *first, tokens = arguments
    own = sum(batch.tokens for batch in first[2])
    return real_add_gradients(*first, 2 * own) * own * 2 / tokens


def stop_after(calls: int, owner: Any, name: str) -> None:
    """Sends this process SIGTERM after a function's call of that number, from now."""
    real, left = getattr(owner, name), calls

    def called(*arguments: Any) -> Any:
        nonlocal left
        result = real(*arguments)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    setattr(owner, name, called)


RunFolder._draw_curves = lambda self, history, layers: None  # type: ignore[method-assign]
recipe, home = sys.argv[1], Path(sys.argv[2])
real_add_gradients = trainer.add_gradients
with joined("cpu") as ranks:  # once: a second group of the same processes may hang in torch's store
    program.joined = lambda device: nullcontext(ranks)  # type: ignore[assignment]
    ticks = count(step=ranks.rank + 1)
    clock = SimpleNamespace(perf_counter=time.perf_counter, process_time=lambda: next(ticks))
    trainer.time = clock  # type: ignore[assignment]
    train(recipe, home / "plain", *QUIET)
    trainer.add_gradients = unweighted
    train(recipe, home / "unweighted", *QUIET)
    trainer.add_gradients = real_add_gradients
    teacher, teaching.BATCH = home / "plain", 100
    train(recipe, home / "whole", "training.epochs=2", teacher=teacher)
    if ranks.rank == 1:
        stop_after(1, teaching, "pick")
        stop_after(5, trainer.Trainer, "_step")
    train(recipe, home / "stopped", "training.epochs=2", teacher=teacher)
    checkpoint = home / "stopped" / "checkpoint.safetensors"
    assert not checkpoint.exists()
    train(recipe, home / "stopped", "training.epochs=2", teacher=teacher)
    if ranks.rank == 0:
        assert load_checkpoint(checkpoint).state["progress"]["step"] == 5
    trainer.take_lessons = None  # type: ignore[assignment]  # which are kept
    train(recipe, home / "stopped", "training.epochs=2", teacher=teacher)
