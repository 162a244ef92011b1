"""`python -m service`: reads the settings, brings everything up in order, and takes it down from the outside in."""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from pathlib import Path

import uvloop

from bundle.errors import BundleError
from bundle.reader import read_bundle
from bundle.repository import find_bundles
from service import golden, logs
from service.engine import open_engine
from service.errors import StartError
from service.metrics import Metrics, ModelMetrics, new_registry
from service.models import Model, Models
from service.scheduler import News, Scheduler
from service.server import Server
from service.servicer import Servicer
from service.settings import Settings, repository, settings_of_process

log = logging.getLogger("service")

PREFERRED_DEFAULT = "g2p-en"
CRASHED, OVERRAN = 1, 70  # exit statuses: the step loop died; the drain outlasted every limit


def main() -> int:
    """Serves until it is told to stop. Returns the exit status: 0, 1 after a crash, 2 when it cannot start."""
    try:
        settings = settings_of_process()
        logs.configure(settings.log_level)
        return uvloop.run(_serve(settings))
    except StartError as error:
        print(f"service: {error}", file=sys.stderr)
        return 2


async def _serve(settings: Settings) -> int:
    stopping = Stop(asyncio.get_running_loop())
    metrics = Metrics(new_registry())
    models = _load_models(settings, metrics, stopping)
    servicer = Servicer(models, settings.max_request_seconds)
    server = Server(servicer, metrics, settings.listen, settings.reflection)
    http = _serve_metrics(metrics, settings.http)
    gc.collect()
    gc.freeze()
    listen = await server.start()
    log.info("ready", extra={"listen": listen, "http": http, "models": [_name(m) for m in models.all()]})
    await stopping.asked.wait()
    await _drain(settings, server, models, stopping)
    for model in models.all():
        await asyncio.to_thread(model.scheduler.stop)
    log.info("stopped")
    return stopping.status


class Stop:
    """Who asked us to stop, and how urgently: SIGTERM politely, a second signal or SIGINT without the lame duck."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.asked, self.hurried, self.forced = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.status = 0
        loop.add_signal_handler(signal.SIGTERM, self._press)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)

    def crashed(self) -> None:
        """Called from a step thread that died: no new call can be answered."""
        self.status = CRASHED
        self._loop.call_soon_threadsafe(self._interrupt)

    def _press(self) -> None:
        for event in (self.asked, self.hurried, self.forced):
            if not event.is_set():
                event.set()
                return

    def _interrupt(self) -> None:
        self.asked.set()
        (self.forced if self.hurried.is_set() else self.hurried).set()


async def _drain(settings: Settings, server: Server, models: Models, stopping: Stop) -> None:
    """NOT_SERVING; the lame-duck time; no new calls; those inside finish, or end as UNAVAILABLE at the limit."""
    log.info("draining")
    limit = settings.lame_duck_seconds + settings.drain_seconds + 3
    watchdog = threading.Timer(limit, os._exit, (OVERRAN,))
    watchdog.daemon = True
    watchdog.start()
    await server.say_not_serving()
    await _set_or_after(stopping.hurried, settings.lame_duck_seconds)
    for model in models.all():
        model.scheduler.drain()
    closing = asyncio.create_task(server.close(settings.drain_seconds))
    forced = asyncio.create_task(stopping.forced.wait())
    await asyncio.wait((closing, forced), return_when=asyncio.FIRST_COMPLETED)
    forced.cancel()
    if not (closing.done() and closing.result()):
        for model in models.all():
            model.scheduler.abort()
    await server.stop()
    watchdog.cancel()


async def _set_or_after(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _load_models(settings: Settings, metrics: Metrics, stopping: Stop) -> Models:
    """Every bundle of the repository, verified. Raises StartError for the first that is not as it should be."""
    try:
        folders = find_bundles(repository(settings))
    except BundleError as error:
        raise StartError(str(error)) from error
    if not folders:
        raise StartError(f"--models {settings.models}: holds no bundle (NAME/VERSION/manifest.json)")
    loop = asyncio.get_running_loop()
    models = [_load_model(folder, settings, metrics, stopping, loop) for folder in folders]
    names = sorted({model.manifest.name for model in models})
    default = settings.default_model or (names[0] if len(names) == 1 else PREFERRED_DEFAULT)
    if default not in names:
        raise StartError(f"--default-model {default!r}: not in the repository; {', '.join(names)} are")
    return Models(models, default)


def _load_model(
    folder: Path, settings: Settings, metrics: Metrics, stopping: Stop, loop: asyncio.AbstractEventLoop
) -> Model:
    name = f"{folder.parent.name}/{folder.name}"
    try:
        bundle = read_bundle(folder)
        engine = open_engine(bundle, settings.max_rows, settings.device, settings.threads)
        engine.warm_up()
        difference = golden.verify(bundle, engine)
    except (BundleError, StartError) as error:
        raise StartError(f"model {name}: {error}") from error
    manifest = bundle.manifest
    figures = ModelMetrics(metrics, manifest.name, manifest.version)

    def hear(news: News) -> None:
        for sequence in news.sequences:
            sequence.on_news(sequence)
        figures.observe(news)

    def tell(news: News) -> None:
        loop.call_soon_threadsafe(hear, news)

    scheduler = Scheduler(engine, tell, stopping.crashed, settings.max_waiting, settings.encode_tokens)
    figures.watch(lambda: len(scheduler.waiting), lambda: len(scheduler.running))
    figures.rows.set(engine.rows)
    figures.ready.set(1)
    metrics.info.labels(
        manifest.name, manifest.version, engine.device, manifest.profiles[0].name, bundle.digest
    ).set(1)
    if engine.device != settings.device and settings.device == "auto" and engine.device == "cpu":
        metrics.fallbacks.inc()
    scheduler.start()
    log.info("loaded", extra={"model": name, "device": engine.device, "worst_difference": difference})
    return Model(bundle, scheduler, engine.device, settings.max_inputs)


def _serve_metrics(metrics: Metrics, address: str) -> str:
    """Starts the HTTP port; returns its real address. Raises StartError when it is taken."""
    host, _, port = address.rpartition(":")
    try:
        server = metrics.serve(host.strip("[]"), int(port))
    except OSError as error:
        raise StartError(f"--http {address}: {error.strerror}") from error
    return f"{host}:{server.server_port}"


def _name(model: Model) -> str:
    return f"{model.manifest.name}/{model.manifest.version}"


if __name__ == "__main__":
    sys.exit(main())
