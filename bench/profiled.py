"""The service, its front profiled from the moment when all of it is imported.

Run as `python -m bench.profiled FILE`, with the flags of `python -m service` behind. FILE is written at the
end.
"""

import cProfile
import sys

from service.__main__ import main

if __name__ == "__main__":
    file = sys.argv.pop(1)
    profile = cProfile.Profile()
    try:
        status = profile.runcall(main)
    finally:
        profile.dump_stats(file)
    sys.exit(status)
