"""The service, batching whole requests: its front, with the engine processes of bench/whole_batches.py.

Run as `python -m bench.baseline`, with the flags of `python -m service`.
"""

import subprocess
import sys
from typing import Any

from service.__main__ import main

OURS, THEIRS = "bench.whole_batches", "service.engine_process"


def start(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
    """As Popen, with the other kind of engine. Raises ValueError for what is no engine."""
    place = command.index(THEIRS)
    return popen([*command[:place], OURS, *command[place + 1 :]], **options)


if __name__ == "__main__":
    popen = subprocess.Popen
    vars(subprocess)["Popen"] = start  # a front starts engines and nothing else
    sys.exit(main())
