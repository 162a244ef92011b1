"""Program for test_resume: killed_runs.py RECIPE FOLDER=POINT ... trains once for each argument, in order.

Each run is a fork of this process, so torch is imported once. POINT says where the run is killed, counted
from its own start: `step:5` after its fifth step, `end` nowhere. Prints how each ended: -9, or its status.
"""

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.utils.tensorboard  # noqa: F401 (slow: here once, not in every fork)

from training import __main__ as program
from training.report import RunFolder
from training.trainer import Trainer


def on_call(owner: Any, name: str, count: int, number: int, *, after: bool, file: str = "") -> None:
    """Sends this process a signal before or after the count-th call of a method (for that file)."""
    real: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def patched(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        meant = not file or Path(arguments[0]).name == file
        calls += meant
        if meant and calls == count and not after:
            os.kill(os.getpid(), number)
        result = real(self, *arguments)
        if meant and calls == count and after:
            os.kill(os.getpid(), number)
        return result

    setattr(owner, name, patched)


class CutShort(io.BufferedWriter):
    """Kills this process when half of what it was given to write is in the file."""

    def write(self, content: Any) -> int:
        super().write(content[: len(content) // 2])
        super().flush()
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


class Unsynced(io.BufferedWriter):
    """Kills this process when all is written, but not yet forced to the disk."""

    def flush(self) -> None:
        super().flush()
        os.kill(os.getpid(), signal.SIGKILL)


def on_write(writer: type[io.BufferedWriter], count: int) -> None:
    """Gives the count-th write of a checkpoint to a writer of ours."""
    real, writes = Path.open, 0

    def patched(self: Path, *arguments: Any, **options: Any) -> Any:
        nonlocal writes
        writes += self.name == ".checkpoint.safetensors.part"
        file = real(self, *arguments, **options)
        if self.name != ".checkpoint.safetensors.part" or writes != count:
            return file
        return writer(file.detach())

    Path.open = patched  # type: ignore[method-assign, assignment]


def arm(point: str) -> None:
    """Places the signal of a point."""
    name, _, count = point.partition(":")
    if writer := {"half": CutShort, "sync": Unsynced}.get(name):
        on_write(writer, int(count))
        return
    checkpoint, best = "checkpoint.safetensors", "best.safetensors"
    place: dict[str, tuple[Any, str, int, bool, str]] = {
        "step": (Trainer, "_step", signal.SIGKILL, True, ""),
        "terminate": (Trainer, "_step", signal.SIGTERM, True, ""),
        "save": (Trainer, "_save", signal.SIGKILL, False, ""),
        "rename": (Path, "replace", signal.SIGKILL, False, checkpoint),
        "renamed": (Path, "replace", signal.SIGKILL, True, checkpoint),
        "best": (Path, "replace", signal.SIGKILL, False, best),
        "best-kept": (Path, "replace", signal.SIGKILL, True, best),
    }
    owner, method, number, after, file = place[name]
    on_call(owner, method, int(count), number, after=after, file=file)


def main() -> None:
    """Runs the arguments' runs."""
    RunFolder._draw_curves = lambda self, history, layers: None  # type: ignore[method-assign]
    recipe, *runs = sys.argv[1:]
    for run in runs:
        folder, _, point = run.rpartition("=")
        child = os.fork()
        if child == 0:
            if point != "end":
                arm(point)
            status = program.main([recipe, "--run", folder, "--threads", "1", "--device", "cpu"])
            sys.stdout.flush()
            os._exit(status)
        print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
