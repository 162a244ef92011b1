"""One run: its figures, its servers and its folders, which begin when they are first needed and end with it.

Chairlift serves without answer cache and single flight, so that every word is decoded, but where a part of
the run says otherwise.
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.answers import Marks
from bench.measures import Figures
from bench.questions import LONG_STEPS, Questions
from bench.repositories import copy_model, lengthen
from bench.servers import Server, running

DECODE_ALL = ("--answer-cache", "0", "--single-flight", "false")
CACHED = ("--answer-cache", "100000", "--single-flight", "true")
PLACES = ("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--lame-duck-seconds", "0")
MIX_WORDS = 512  # learnt of the model with longer answers


@dataclass
class Bench:
    """One run. Use as a context: its servers and folders end with it."""

    models: Path
    name: str
    words: Path | None
    seconds: float
    others: str = sys.executable  # interpreter with the servers of others
    figures: Figures = field(default_factory=dict)
    marks: Marks = field(default_factory=Marks)
    model: str = ""  # what is measured, in words
    about: dict[str, str] = field(default_factory=dict)  # versions of others

    def __enter__(self) -> "Bench":
        self._open = ExitStack()
        self._servers: dict[tuple[str, ...], Server] = {}
        self._questions: dict[Path, Questions] = {}
        self._folder = Path(self._open.enter_context(TemporaryDirectory()))
        self.plain = self._folder / "plain"  # the repository that is served
        self.bundle = copy_model(self.models, self.name, self.plain)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def long(self) -> Path:
        """The repository of the same model, with room for long answers."""
        folder = self._folder / "long"
        if not folder.exists():
            lengthen(self.bundle, LONG_STEPS, folder)
        return folder

    def server(self, module: str, *flags: str) -> Server:
        """A server of the run, started once."""
        key = (module, *flags)
        if key not in self._servers:
            self._servers[key] = self._open.enter_context(running(*key))
        return self._servers[key]

    def chairlift(self, *flags: str, repository: Path | None = None) -> Server:
        """The service."""
        server = self.server("service", *self._flags(repository), *(flags or DECODE_ALL))
        self.about["front"] = server.front
        return server

    def profiled(self, file: Path) -> Server:
        """The service, its front profiled into a file, which is written when it ends."""
        return self.server("bench.profiled", str(file), *self._flags(None), *DECODE_ALL)

    def baseline(self, repository: Path | None = None) -> Server:
        """The service, batching whole requests."""
        return self.server("bench.baseline", *self._flags(repository), *DECODE_ALL)

    def questions(self, repository: Path | None = None) -> Questions:
        """What can be asked of the model in a repository; its answers are learnt once."""
        repository = repository or self.plain
        if repository not in self._questions:
            server = self.chairlift(repository=repository)
            asked = Questions(server.listen, self.words, *([] if repository == self.plain else [MIX_WORDS]))
            self._open.callback(asked.close)
            if repository == self.plain or not self.model:
                self.model = asked.describe()
            self._questions[repository] = asked
        return self._questions[repository]

    def _flags(self, repository: Path | None) -> tuple[str, ...]:
        return (*PLACES, "--models", str(repository or self.plain))
