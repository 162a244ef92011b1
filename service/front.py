"""What takes the calls: the compiled front over gRPC's C core, or grpc.aio. Knows nothing of methods."""

from typing import Any

import grpc

from service import calls
from service.core_server import CoreServer, Options
from service.errors import StartError


def front(wanted: str, options: Options) -> tuple[str, Any]:
    """The wanted front's name and server; `auto` is `core` where that is there. Raises StartError."""
    library = None if wanted == "aio" else calls.load()
    if library is not None:
        return "core", CoreServer(library, options)
    if wanted == "core":
        raise StartError(
            "--front core: not there; install gRPC's C library with its headers (Debian: libgrpc-dev), "
            "then `make native`"
        )
    return "aio", grpc.aio.server(options=options)
