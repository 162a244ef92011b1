"""From a repository's folders to models that answer: read, given to engine processes, linked, measured."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from bundle.errors import BundleError
from bundle.reader import Bundle, read_bundle
from bundle.repository import find_bundles
from service.catalogue import Models
from service.dispatcher import Dispatcher, express_rows
from service.errors import StartError
from service.link import EngineProcess, Link
from service.messages import Start
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

    async def load(self) -> Models:
        """Every bundle of the repository, verified. Raises StartError for the first that is not sound."""
        folders, default = self._find()
        return Models([await self._load(folder) for folder in folders], default)

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
        """Ends all engine processes."""
        await asyncio.gather(*(asyncio.to_thread(process.stop) for process in self._processes))

    async def _load(self, folder: Path) -> Model:
        settings, name = self._settings, f"{folder.parent.name}/{folder.name}"
        try:
            bundle = read_bundle(folder)
            profile = bundle.manifest.profile(settings.profile).name
            start = Start(
                folder=str(folder),
                profile=profile,
                device=settings.device,
                rows=settings.max_rows,
                express_rows=express_rows(settings.max_rows),
                threads=settings.threads,
                encode_tokens=settings.encode_tokens,
            )
            processes = [EngineProcess(start, settings.log_level) for _ in range(settings.engines)]
            self._processes += processes
            answers = await asyncio.gather(*(process.open() for process in processes))
            if any(process.link.closed for process in processes):
                raise StartError("an engine process ended while another one loaded")
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
                "profile": profile,
                "device": ready.device,
                "worst_difference": ready.difference,
            },
        )
        links = [process.link for process in processes]
        return start_model(bundle, profile, ready.device, links, settings, self._metrics, self._crashed)


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
    metrics.info.labels(manifest.name, manifest.version, device, profile, bundle.digest).set(1)
    return model
