"""SIGTERM and SIGINT as a request to stop. Knows nothing of what is stopped."""

import signal
from types import TracebackType


class StopRequest:
    """Whether a person or a system asked this process to stop, since `with` began."""

    def __init__(self) -> None:
        self.made = False

    def __enter__(self) -> "StopRequest":
        numbers = (signal.SIGTERM, signal.SIGINT)
        self._before = {number: signal.signal(number, self._make) for number in numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _make(self, *_: object) -> None:
        self.made = True
