"""`python -m service`: reads the settings, brings everything up in order, serves, and drains."""

import logging
import sys

import uvloop

from service import logs
from service.collector import settle
from service.errors import StartError
from service.lifecycle import Stop, drain, unless
from service.loading import Loader
from service.metrics import Metrics, new_registry
from service.server import Server
from service.servicer import Servicer
from service.settings import Settings, settings_of_process

log = logging.getLogger("service")

CANNOT_START = 2


SWITCH_SECONDS = 1e-4  # within which gRPC's poller gets the interpreter, to say that a call has come


def main() -> int:
    """Serves until it is told to stop. Returns the exit status: 0, 1 after a crash, 2 if it cannot start."""
    try:
        settings = settings_of_process()
        logs.configure(settings.log_level)
        sys.setswitchinterval(SWITCH_SECONDS)
        return uvloop.run(_serve(settings))
    except StartError as error:
        print(f"service: {error}", file=sys.stderr)
        return CANNOT_START


async def _serve(settings: Settings) -> int:
    stop = Stop()
    stop.listen()
    metrics = Metrics(new_registry())
    loader = Loader(settings, metrics, stop.crashed)
    try:
        models = await unless(stop.asked, loader.load())
        if models is None:
            await loader.stop()
            log.info("stopped before it was ready")
            return stop.status
        server = Server(Servicer(models, settings.max_request_seconds), metrics, settings)
        http = metrics.serve(settings.http)
        settle()
        listen = await server.start()
    except StartError:
        await loader.stop()
        raise
    names = [f"{model.manifest.name}/{model.manifest.version}" for model in models.all()]
    log.info("ready", extra={"listen": listen, "http": http, "front": server.front, "models": names})
    await stop.asked.wait()
    await drain(settings, server, models, loader, stop)
    log.info("stopped")
    return stop.status


if __name__ == "__main__":
    sys.exit(main())
