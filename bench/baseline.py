"""The service, batching whole requests: its front, with the engine processes of bench/whole_batches.py.

Run as `python -m bench.baseline`, with the flags of `python -m service`.
"""

import sys

from service import link
from service.__main__ import main

if __name__ == "__main__":
    link.ENGINE_MODULE = "bench.whole_batches"
    sys.exit(main())
