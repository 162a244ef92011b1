"""The service with a device that breaks in the middle of decoding, or lacks its libraries, for drills.

Run as `python -m bench.broken_device`, with the flags of `python -m service`: its front, with the engine
processes of bench/broken_engine.py.
"""

import sys

from service import link
from service.__main__ import main

if __name__ == "__main__":
    link.ENGINE_MODULE = "bench.broken_engine"
    sys.exit(main())
