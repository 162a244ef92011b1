"""Program: PYTHONPATH=. python tests/training/random_kills.py RECIPE FOLDER [KILLS]

Trains once in peace, and then is killed at random moments.

The moments are drawn from a quarter of a whole run's time; every second one is put off to the next write of a
checkpoint, to a random moment of it. A run that came to its end is followed by one in another folder, until
KILLS (20) were made; then the last one ends in peace. Prints where each kill struck and the digest of every
run that ended; the exit status is 1 where they are not all one.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch.utils.tensorboard  # noqa: F401 (slow: here once, not in every fork)

from tests.training.test_resume import digest
from training import __main__ as program
from training.checkpoint import load_checkpoint
from training.report import RunFolder

SEED = 1


def main() -> int:
    """Returns the exit status."""
    RunFolder._draw_curves = lambda self, history, layers: None  # type: ignore[method-assign]
    recipe, home = sys.argv[1], Path(sys.argv[2])
    kills = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    chance = random.Random(SEED)
    began = time.monotonic()
    assert wait(start(recipe, home / "peace")) == 0
    whole = time.monotonic() - began
    digests, made, run = {"peace": digest(home / "peace")}, 0, 1
    while made < kills or not ended(home / f"killed-{run}"):
        folder = home / f"killed-{run}"
        if ended(folder):
            digests[folder.name] = digest(folder)
            run += 1
            continue
        child = start(recipe, folder)
        if made == kills:
            assert wait(child) == 0
            break
        where = kill(child, folder, chance.uniform(0, whole / 4), made % 2 == 1, chance)
        if wait(child) == -signal.SIGKILL:
            made += 1
            print(f"kill {made} of {folder.name}: {where}", flush=True)
    digests[f"killed-{run}"] = digest(home / f"killed-{run}")
    for name, found in digests.items():
        print(f"{found}  {name}")
    return 0 if len(set(digests.values())) == 1 else 1


def start(recipe: str, folder: Path) -> int:
    """A fork that trains; its process id."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(2, 1)
        os._exit(program.main([recipe, "--run", str(folder), "--threads", "1", "--device", "cpu"]))
    return child


def wait(child: int) -> int:
    """How it ended: its status, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(child: int, folder: Path, after: float, in_a_write: bool, chance: random.Random) -> str:
    """Kills it after so many seconds, or in the next write of a checkpoint; says where that was."""
    began, before = time.monotonic(), parts(folder)
    while time.monotonic() < began + after and alive(child):
        time.sleep(0.001)
    while in_a_write and alive(child) and parts(folder) in ({}, before):
        pass  # a write takes a few milliseconds
    if in_a_write:
        time.sleep(chance.uniform(0, 0.003))
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    left = parts(folder)
    where = "between writes"
    if left and left != before:
        where = ", ".join(f"{size} bytes into {name}" for name, (_, size) in left.items())
    return f"{time.monotonic() - began:.2f} s after its start, {where}"


def parts(folder: Path) -> dict[str, tuple[int, int]]:
    """When each temporary file of a checkpoint was written, and how large it is."""
    found = {}
    for name in ("checkpoint", "best"):
        path = folder / f".{name}.safetensors.part"
        try:
            about = path.stat()
        except FileNotFoundError:
            continue
        found[path.name] = about.st_mtime_ns, about.st_size
    return found


def alive(child: int) -> bool:
    """Whether it still runs; a process that ended is not waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def ended(folder: Path) -> bool:
    """Whether a run of this folder came to its end."""
    path = folder / "checkpoint.safetensors"
    return path.exists() and bool(load_checkpoint(path).state["progress"]["finished"])


if __name__ == "__main__":
    sys.exit(main())
