"""Exception lexicons beside the bundles, in one folder, which may change while the server runs.

A file NAME.tsv there is for the model NAME, each of its versions, and stands in for the bundle's own lexicon;
without it, the bundle's own answers. Files are looked at again and again: that works on every file system,
and where a link above the file is what changes, as in a ConfigMap that Kubernetes mounts. Nobody sends a
signal there, and the kernel's watches end with the file that they watch. A file is read once it has not
changed from one look to the next, so that whoever writes in place is not read in the middle.

Knows nothing of requests: a model under another lexicon is another Model, and a call keeps the one it has.
"""

import asyncio
import logging
import os
import stat
import time
from functools import partial
from pathlib import Path

from bundle.errors import BundleError
from bundle.lexicon import LARGEST_LEXICON_BYTES, Lexicon, read_lexicon
from service.catalogue import Models
from service.errors import StartError
from service.metrics import Metrics
from service.models import Model

log = logging.getLogger(__name__)

REST_SECONDS = 0.0005  # every few lines, for the event loop
State = tuple[int, ...] | None  # tells one content of a file from the next; None: there is no file
UNSETTLED: State = (-1,)  # of no file


class ChangedError(BundleError):
    """A file changed between the look at it and the end of reading. The next look sees the change."""


class LexiconFiles:
    """The lexicons of a folder: `load` at the start, then `watch`. `models` gets each model under its own."""

    def __init__(self, folder: Path, models: Models, metrics: Metrics) -> None:
        self._folder = folder
        self._models = models
        self._metrics = metrics
        self._seen: dict[str, State] = {}  # by the name of the model, at the last look
        self._settled: dict[str, State] = {}  # taken or refused already
        self._stopped = False

    def load(self) -> None:
        """Takes every file. Raises StartError for what is wrong with one of them."""
        if not self._folder.is_dir():
            raise StartError(f"--lexicons {self._folder}: no such folder")
        for path in sorted(self._folder.glob("*.tsv")):
            if path.stem not in self._models.by_name:
                log.warning("a lexicon of no model that is served", extra={"file": path.name})
        for name in list(self._models.by_name):
            self._seen[name] = self._settled[name] = state = self._look_at(name)
            for model in list(self._models.by_name[name].values()):
                try:
                    self._take(model, self._read(model, state, 0.0))
                except BundleError as error:
                    raise StartError(f"--lexicons: {error}") from error

    async def watch(self, seconds: float) -> None:
        """Looks so often, until it is cancelled; a file that is being read then is let go of."""
        try:
            while True:
                await asyncio.sleep(seconds)
                try:
                    await self.look()
                except Exception:
                    log.exception("the lexicons could not be looked at")
        finally:
            self._stopped = True

    async def look(self) -> None:
        """Takes or refuses each file that has changed, but not since the last look."""
        for name in list(self._models.by_name):
            state = await asyncio.to_thread(self._look_at, name)
            before, self._seen[name] = self._seen[name], state
            if state != before or state == self._settled[name]:
                continue
            try:
                for model in list(self._models.by_name[name].values()):
                    await self._reload(model, state)
            except ChangedError:
                state = UNSETTLED  # some versions may have taken it, others not
            self._settled[name] = state

    async def _reload(self, model: Model, state: State) -> None:
        """One model under what a file holds now; under what it has, if that is refused."""
        try:
            self._take(model, await asyncio.to_thread(self._read, model, state, REST_SECONDS))
        except ChangedError:
            raise
        except BundleError as error:
            self._metrics.lexicon_reloaded.labels(*_labels(model)).set(0)
            log.error("lexicon refused", extra={"model": "/".join(_labels(model)), "reason": str(error)})

    def _take(self, model: Model, lexicon: Lexicon | None) -> None:
        model = model.with_lexicon(lexicon)
        self._models.replace(model)
        labels = _labels(model)
        self._metrics.describe(model.manifest.name, model.manifest.version, digest=model.digest)
        self._metrics.lexicon_entries.labels(*labels).set(model.lexicon_entries)
        self._metrics.lexicon_reloaded.labels(*labels).set(1)
        self._metrics.lexicon_reloaded_at.labels(*labels).set_to_current_time()
        extra = {"model": "/".join(labels), "entries": model.lexicon_entries, "digest": model.digest}
        log.info("lexicon taken", extra=extra)

    def _look_at(self, name: str) -> State:
        try:
            return _state(self._path(name).stat())
        except FileNotFoundError:
            return None if self._folder.is_dir() else ()
        except OSError as error:
            return (error.errno or 0,)  # what is wrong, reading it says

    def _read(self, model: Model, state: State, rest_seconds: float) -> Lexicon | None:
        """What a file in this state makes a model answer. Raises BundleError."""
        if state is None:
            return None
        path = self._path(model.manifest.name)
        texts, limits = (model.bundle.source, model.bundle.target), model.manifest.limits
        data = _read_file(path, state)
        return read_lexicon(data, *texts, limits, path.name, partial(self._rest, rest_seconds))

    def _rest(self, seconds: float) -> None:
        if self._stopped:
            raise BundleError("the server stops")
        time.sleep(seconds)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.tsv"


def _labels(model: Model) -> tuple[str, str]:
    return model.manifest.name, str(model.manifest.version)


def _state(status: os.stat_result) -> State:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read_file(path: Path, state: State) -> bytes:
    """The bytes of a file, whole. Raises ChangedError where they are of another state, BundleError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{path.name}: not a regular file; only regular files are allowed")
            data = file.read(LARGEST_LEXICON_BYTES + 1)
            if _state(status) != state or _state(os.fstat(descriptor)) != state:
                raise ChangedError(f"{path.name}: changed while it was read")
    except OSError as error:
        raise BundleError(f"{path.name}: cannot be read: {error.strerror}") from error
    return data
