"""An engine process whose device breaks in the middle of decoding, or lacks its libraries: DRILL says which.

Started by bench/broken_device.py. On a GPU it really breaks: a run is bound to an address that nobody has,
and the GPU throws at everything from then on. DRILL=cpu in the environment takes the CPU for the device;
there, where that would kill the process, every run throws. DRILL=libraries loads none of those that come with
Python packages, DRILL=cudnn all but cuDNN.
"""

import os
import sys
from functools import partial
from typing import Any

from bundle.reader import Bundle
from service import engine_process, opening, providers
from service.device_engine import DeviceEngine

STEPS = 200  # before it breaks
NOWHERE = 8  # an address


class Breaking(DeviceEngine):
    """Sound until STEPS steps after the last golden case."""

    on_cpu = False  # whatever device is named
    _left = float("inf")

    def __init__(
        self, bundle: Bundle, profile: str, rows: int, device: str, *more: Any, **named: Any
    ) -> None:
        super().__init__(bundle, profile, rows, "cpu" if self.on_cpu else device, *more, **named)

    def clear(self) -> None:
        """As always; from here on it counts."""
        super().clear()
        self._left = STEPS

    def step(self, count: int) -> tuple[list[int], list[float]]:
        """As always, for a while."""
        self._left -= 1
        if self._left < 0:
            self._break()
        return super().step(count)

    def _break(self) -> None:
        if self.device == "cpu":
            self._sessions.decoder = self._sessions.tell = _Throws()
            return
        binding = self._sessions.tell.io_binding()
        self._state.plan_buffer(1).bind_input(binding, "plan", 3)
        for bind, name in ((binding.bind_input, "token"), (binding.bind_output, "token_out")):
            bind(name, self.device, 0, self._state.tokens[0].dtype, (self.rows + 1,), NOWHERE)
        self._sessions.tell.run_with_iobinding(binding)


class _Throws:
    """In place of a session."""

    def run_with_iobinding(self, *_: object) -> None:
        raise RuntimeError("the drill's device is broken")


if __name__ == "__main__":
    drill = os.environ.get("DRILL", "")
    match drill:
        case "libraries":
            providers.ort.preload_dlls = lambda: None
        case "cudnn":
            providers.ort.preload_dlls = partial(providers.ort.preload_dlls, cudnn=False)
        case _:
            vars(opening)["DeviceEngine"] = Breaking
    if drill == "cpu":
        vars(opening)["check_cuda"] = lambda: None
        Breaking.on_cpu = True
    sys.exit(engine_process.main())
