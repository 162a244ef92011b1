"""From a repository's folders to models that answer: read, put on a device, verified, stepping.

The one place where the engine and the scheduler meet.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from bundle.errors import BundleError
from bundle.reader import Bundle, read_bundle
from bundle.repository import find_bundles
from service.engine import open_engine
from service.errors import StartError
from service.golden import verify
from service.metrics import Metrics, ModelMetrics
from service.models import Model, Models
from service.scheduler import Engine, News, Scheduler
from service.settings import Settings

log = logging.getLogger(__name__)

PREFERRED_DEFAULT = "g2p-en"


def load_models(settings: Settings, metrics: Metrics, crashed: Callable[[], None]) -> Models:
    """Every bundle of the repository, verified. Raises StartError for the first that is not sound."""
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
    return Models([_load(folder, settings, metrics, crashed) for folder in folders], default)


def _load(folder: Path, settings: Settings, metrics: Metrics, crashed: Callable[[], None]) -> Model:
    name = f"{folder.parent.name}/{folder.name}"
    try:
        bundle = read_bundle(folder)
        engine = open_engine(bundle, settings.max_rows, settings.device, settings.threads)
        engine.warm_up()
        difference = verify(bundle, engine)
    except (BundleError, StartError) as error:
        raise StartError(f"model {name}: {error}") from error
    if settings.device == "auto" and engine.device == "cpu":
        metrics.fallbacks.inc()
    log.info("loaded", extra={"model": name, "device": engine.device, "worst_difference": difference})
    return start_model(bundle, engine, engine.device, settings, metrics, crashed)


def start_model(
    bundle: Bundle,
    engine: Engine,
    device: str,
    settings: Settings,
    metrics: Metrics,
    crashed: Callable[[], None],
) -> Model:
    """Starts the step loop of a model. Its news comes back to the running event loop."""
    loop = asyncio.get_running_loop()
    manifest = bundle.manifest
    figures = ModelMetrics(metrics, manifest.name, manifest.version)

    def hear(news: News) -> None:
        for sequence in (*news.streaming, *news.ended):
            sequence.on_news(sequence)
        figures.observe(news)

    def tell(news: News) -> None:
        loop.call_soon_threadsafe(hear, news)

    scheduler = Scheduler(engine, tell, crashed, settings.max_waiting, settings.encode_tokens)
    figures.watch(lambda: len(scheduler.waiting), lambda: len(scheduler.running))
    figures.rows.set(engine.rows)
    figures.ready.set(1)
    profile = manifest.profiles[0].name
    metrics.info.labels(manifest.name, manifest.version, device, profile, bundle.digest).set(1)
    scheduler.start()
    return Model(bundle, scheduler, device, settings.max_inputs)
