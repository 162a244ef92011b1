"""What a run ran on. Holds no path and no host name."""

import importlib.metadata
import os
import platform
import re
import shlex
import time
from pathlib import Path

VERSIONS = ("grpcio", "uvloop", "protobuf", "onnxruntime", "numpy", "msgspec", "tokenizers")


def describe() -> dict[str, str]:
    """Machine, system, versions, load and time."""
    versions = {name: _version(name) for name in VERSIONS}
    return {
        "CPU": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores for this run",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def command_line(arguments: list[str]) -> str:
    """The command of this run; of a path with folders, alone or after a `=`, its last part alone.

    A model is no path: NAME/VERSION is shown as it is.
    """
    shown = [
        word
        if word.startswith("--model=") or before == "--model"
        else re.sub(r"(?s)^(--[\w-]+=)?.*/(?=.)", r"\1", word)
        for before, word in zip(["", *arguments], arguments, strict=False)
    ]
    return shlex.join(["python", "-m", "bench", *shown])


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
