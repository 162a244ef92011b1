"""From a repository's folders to models that answer: read, given to engine processes, linked, measured."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bundle.errors import BundleError
from bundle.reader import Bundle, read_bundle
from bundle.repository import find_bundles
from service.catalogue import Models
from service.dispatcher import Dispatcher, express_rows
from service.errors import StartError
from service.lexicon_files import LexiconFiles
from service.link import EngineProcess, Link
from service.messages import Ready, Start
from service.metrics import Metrics, ModelMetrics
from service.models import Model
from service.settings import Settings

log = logging.getLogger(__name__)

PREFERRED_DEFAULT = "g2p-en"


class Loader:
    """Loads every model of the repository, and ends their engines at last. `crashed`: one ended by itself."""

    def __init__(self, settings: Settings, metrics: Metrics, crashed: Callable[[], None]) -> None:
        self._settings = settings
        self._metrics = metrics
        self._crashed = crashed
        self._processes: list[EngineProcess] = []
        self._watch: asyncio.Task[None] | None = None

    async def load(self) -> Models:
        """Every bundle of the repository, verified; one that is not sound is not ready, and harms no other.

        Raises StartError where no version of the default model is ready.
        """
        folders, default = self._find()
        ready: list[Model] = []
        unready: dict[tuple[str, int], StartError] = {}
        for folder in folders:
            try:
                ready.append(await self._load(folder))
            except StartError as error:
                unready[folder.parent.name, int(folder.name)] = error
        if default not in (model.manifest.name for model in ready):
            raise next(why for (name, _), why in unready.items() if name == default)
        for (name, version), why in unready.items():
            self._metrics.ready.labels(name, str(version)).set(0)
            log.error("not ready", extra={"model": f"{name}/{version}", "reason": str(why)})
        models = Models(ready, default, unready)
        if self._settings.lexicons:
            lexicons = LexiconFiles(Path(self._settings.lexicons), models, self._metrics)
            lexicons.load()
            self._watch = asyncio.create_task(lexicons.watch(self._settings.lexicon_seconds))
        return models

    def _find(self) -> tuple[list[Path], str]:
        """The folders of all bundles, and the name of the default model. Raises StartError."""
        settings = self._settings
        repository = Path(settings.models)
        if not repository.is_dir():
            raise StartError(f"--models {settings.models}: no such folder")
        try:
            folders = find_bundles(repository)
        except BundleError as error:
            raise StartError(str(error)) from error
        if not folders:
            raise StartError(f"--models {settings.models}: holds no bundle (NAME/VERSION/manifest.json)")
        names = sorted({folder.parent.name for folder in folders})
        default = settings.default_model or (names[0] if len(names) == 1 else PREFERRED_DEFAULT)
        if default not in names:
            raise StartError(f"--default-model {default!r}: not in the repository; {', '.join(names)} are")
        return folders, default

    async def stop(self) -> None:
        """Ends all engine processes, and looks at no lexicon any more."""
        if self._watch:
            self._watch.cancel()
        await asyncio.gather(*(asyncio.to_thread(process.stop) for process in self._processes))

    async def _load(self, folder: Path) -> Model:
        """A model whose engines are ready. Raises StartError naming it."""
        name = f"{folder.parent.name}/{folder.name}"
        try:
            bundle = read_bundle(folder)
            bundle.manifest.profile(self._settings.profile)  # is there one of this name?
            processes, answers = await self._start_engines(folder)
        except (BundleError, StartError) as error:
            raise StartError(f"model {name}: {error}") from error
        for ready in answers:
            if ready.fallback:
                self._metrics.fallbacks.inc()
                log.warning("falling back to the CPU", extra={"model": name, "reason": ready.fallback})
        ready = answers[0]
        log.info(
            "loaded",
            extra={
                "model": name,
                "profile": ready.profile,
                "device": ready.device,
                "runtime": ready.runtime,
                "worst_difference": ready.difference,
            },
        )
        links = [process.link for process in processes]
        self._metrics.device_bytes.labels(bundle.manifest.name, str(bundle.manifest.version)).set(
            sum(ready.held_bytes for ready in answers)
        )
        model = start_model(
            bundle, ready.profile, ready.device, links, self._settings, self._metrics, self._crashed
        )
        for link in links:
            link.moved = partial(self._moved, model)
        return model

    async def _start_engines(self, folder: Path) -> tuple[list[EngineProcess], list[Ready]]:
        """A model's processes, ready and all of one kind. Raises StartError, and leaves none behind."""
        settings = self._settings
        start = Start(
            folder=str(folder),
            profile=settings.profile,
            device=settings.device,
            rows=settings.max_rows,
            express_rows=express_rows(settings.max_rows),
            threads=settings.threads,
            encode_tokens=settings.encode_tokens,
            kernels=settings.kernels,
            tf32=settings.tf32,
        )
        processes = [EngineProcess(start, settings.log_level) for _ in range(settings.engines)]
        self._processes += processes
        try:
            answers = await asyncio.gather(*(process.open() for process in processes))
            if any(process.link.closed for process in processes):
                raise StartError("an engine process ended while another one loaded")
            found = sorted({f"{ready.profile} on {ready.device} by {ready.runtime}" for ready in answers})
            if len(found) > 1:  # the same request would get one answer or the other
                raise StartError(f"its engines are {', '.join(found)}; all of one kind are allowed")
        except StartError:
            await asyncio.gather(*(asyncio.to_thread(process.stop) for process in processes))
            raise
        return processes, answers

    def _moved(self, model: Model, ready: Ready) -> None:
        """An engine has lost its device. Its model says CPU from now on, whatever other engines it has."""
        manifest = model.manifest
        labels = (manifest.name, str(manifest.version))
        self._metrics.fallbacks.inc()
        model.dispatcher.device = ready.device
        self._metrics.describe(manifest.name, manifest.version, device=ready.device)
        log.error(
            "fell back to the CPU", extra={"model": f"{labels[0]}/{labels[1]}", "reason": ready.fallback}
        )


def start_model(
    bundle: Bundle,
    profile: str,
    device: str,
    links: list[Link],
    settings: Settings,
    metrics: Metrics,
    crashed: Callable[[], None],
) -> Model:
    """A model whose engines are ready at the other end of the links."""
    manifest = bundle.manifest
    figures = ModelMetrics(metrics, manifest.name, manifest.version)
    dispatcher = Dispatcher(links, settings.max_rows, settings.max_waiting, figures.observe, crashed)
    model = Model(bundle, profile, device, dispatcher, settings)
    figures.watch(dispatcher, model.answers)
    figures.rows.set(dispatcher.rows)
    figures.ready.set(1)
    metrics.lexicon_entries.labels(manifest.name, str(manifest.version)).set(model.lexicon_entries)
    metrics.describe(manifest.name, manifest.version, device=device, profile=profile, digest=model.digest)
    return model
