"""The engine process's end of the link: messages over a socket, waited for or not."""

import socket
from collections.abc import Sequence
from contextlib import suppress

from service.messages import Frames, FromEngine, ToEngine, frame

READ_BYTES = 1 << 16
LINGER_SECONDS = 2.0


class Channel:
    """Blocking writes: an engine that outruns its front waits for it."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._frames = Frames(ToEngine)

    def send(self, message: FromEngine) -> None:
        """Sends one message. Raises OSError when the front is gone."""
        self._end.sendall(frame(message))

    def hang_up(self) -> None:
        """Lets the front hear all that was said, then the end.

        Until it has, what it still says is taken and forgotten: where it cannot write, it reads no further.
        """
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_WR)
            self._end.settimeout(LINGER_SECONDS)
            while self._end.recv(READ_BYTES):
                pass

    def receive(self, wait: bool) -> Sequence[ToEngine] | None:
        """What has come by now, or if it may wait, at least one byte's worth. None: the front is gone."""
        try:
            data = self._end.recv(READ_BYTES, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return ()
        except OSError:
            return None
        return list(self._frames.feed(data)) if data else None  # type: ignore[arg-type]  # kinds are checked there
