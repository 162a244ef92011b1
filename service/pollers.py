"""The threads of gRPC that hand every event to the front's event loop. Knows nothing of calls."""

import os
import sys
import threading
from contextlib import suppress

POLLER_NICENESS = 5


def slow_down_pollers() -> None:
    """Lets the event loop's thread go before gRPC's, which hands it every event.

    Where cores are short, it would interrupt the loop for each event; behind it, it brings many at once.
    """
    if sys.platform != "linux":  # elsewhere a thread has no priority of its own
        return
    own = os.getpriority(os.PRIO_PROCESS, 0)
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and thread.native_id is not None:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, thread.native_id, own + POLLER_NICENESS)
