"""Sessions that stand in for a GPU's: one that captures as CUDA graphs do, one whose device is lost."""

from collections import Counter

from onnxruntime.capi.onnxruntime_pybind11_state import Fail

RUNS_AT_CAPTURE = 3  # two to warm up, and the captured one


class Recorded:
    """A binding that remembers what was bound."""

    def __init__(self, session) -> None:
        self._session = session
        self.real = session.io_binding()
        self.calls: dict[tuple[str, str], tuple] = {}  # (method, tensor): all that was given
        self.count = 0

    def __getattr__(self, name):
        method = getattr(self.real, name)
        if not name.startswith("bind_"):
            return method

        def bind(*arguments):
            self.calls[name, arguments[0]] = arguments
            self.count += 1
            method(*arguments)

        return bind

    def addresses(self) -> dict[tuple[str, str], object]:
        """The shape of each tensor, and where it lies."""
        return {key: arguments[-2:] for key, arguments in self.calls.items()}

    def frozen(self):
        """Another binding to what is bound now."""
        other = self._session.io_binding()
        for (name, _), arguments in self.calls.items():
            getattr(other, name)(*arguments)
        return other


class Capturing:
    """Runs with a graph id three times at first; from then on it reads and writes where it did then."""

    def __init__(self, session) -> None:
        self._session = session
        self._captured: dict[str, object] = {}
        self.where: dict[str, dict] = {}  # addresses, by graph id
        self.bindings: list[Recorded] = []
        self.runs: Counter[str] = Counter()  # by graph id
        self.strayed = 0  # replays that were bound elsewhere than at capture

    def io_binding(self) -> Recorded:
        self.bindings.append(Recorded(self._session))
        return self.bindings[-1]

    @property
    def bound(self) -> int:
        """Tensors bound so far."""
        return sum(binding.count for binding in self.bindings)

    def run_with_iobinding(self, binding: Recorded, options) -> None:
        graph_id = options.get_run_config_entry("gpu_graph_id")
        self.runs[graph_id] += 1
        if graph_id == "-1":
            self._session.run_with_iobinding(binding.real)
        elif graph_id in self._captured:
            self.strayed += binding.addresses() != self.where[graph_id]
            self._session.run_with_iobinding(self._captured[graph_id])
        else:
            self._captured[graph_id] = binding.frozen()
            self.where[graph_id] = binding.addresses()
            for _ in range(RUNS_AT_CAPTURE):
                self._session.run_with_iobinding(self._captured[graph_id])


class Fuse:
    """Lets so many runs pass; then every session on it throws what ONNX Runtime throws for a lost GPU."""

    def __init__(self, runs: int) -> None:
        self.left = runs

    def burn(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Fail(
                "CUDA failure 700: an illegal memory access was encountered; GPU=0; a secret of the host"
            )


class OnFuse:
    """A session whose device is lost with its fuse."""

    def __init__(self, session, fuse: Fuse) -> None:
        self._session = session
        self._fuse = fuse

    def io_binding(self):
        return self._session.io_binding()

    def run_with_iobinding(self, *arguments) -> None:
        self._fuse.burn()
        self._session.run_with_iobinding(*arguments)


SESSIONS = ("encoder", "decoder", "enter", "place", "tell", "tops", "every", "copy", "resize", "align")


def put_on_fuse(engine, fuse: Fuse, *names: str) -> None:
    """Some of a device engine's sessions, or all of them, are lost with a fuse."""
    for name in names or SESSIONS:
        session = getattr(engine._sessions, name)
        setattr(engine._sessions, name, session and OnFuse(session, fuse))
    engine._state.memory._resizer = engine._sessions.resize
