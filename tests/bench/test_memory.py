"""Memory is flat over a few thousand steps, in a process of its own; and what keeps the ended is seen."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
STEPS, BOUND_KIB = 6000, 1024  # noise is below 100 KiB; what is kept of so many steps is 2,500


def run(bundle: Path, *options: str) -> tuple[int, str]:
    """The exit status, and the last line that is printed."""
    command = [sys.executable, "-m", "bench.memory", "--bundle", bundle, "--rows", "16", *options]
    command += ["--steps", str(STEPS), "--warm-up", str(STEPS // 2), "--bound-kib", str(BOUND_KIB)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()[-1]


def test_memory_is_flat(tiny_bundle: Path) -> None:
    status, said = run(tiny_bundle)
    assert status == 0, said
    assert f"({BOUND_KIB:,} are allowed)" in said


def test_what_keeps_the_ended_is_seen(tiny_bundle: Path) -> None:
    """Negative control."""
    status, said = run(tiny_bundle, "--keep")
    assert status == 1, said
