"""Ends a process that hangs inside a device, where no exception would ever come of it.

Knows nothing of what hangs. A step takes milliseconds; one that takes STALL_SECONDS never comes back. A
thread looks on, and says goodbye. Where what hangs holds the interpreter, as copies to and from a device do,
no thread of Python runs again: after twice that time a signal that nobody handles ends the process.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

STALL_SECONDS = 20.0
HUNG = 70  # exit status


class Watchdog:
    """Looks on from a thread of its own. `farewell` is called before the end, from that thread."""

    def __init__(self, farewell: Callable[[], None], stall_seconds: float = STALL_SECONDS) -> None:
        self._farewell = farewell
        self._stall_seconds = stall_seconds
        self._since = 0.0  # when what is watched began; 0: nothing is
        self._over = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Nothing in here may hang."""
        self._since = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 2 * self._stall_seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._since = 0.0

    def stop(self) -> None:
        """Looks away for good."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(self._stall_seconds / 4):
            since = self._since
            if since and time.monotonic() - since > self._stall_seconds:
                log.error("the device hangs", extra={"seconds": self._stall_seconds})
                self._farewell()
                os._exit(HUNG)  # nothing else ends a thread that waits for a device
