"""A server that sends each message back, and does nothing else: in grpc.aio, as services in Python are.

The same library, event loop and socket, without protobuf and without a model: whatever a call costs here, no
service gets below it that grpc.aio brings its calls. bench/core_echo.py is the same behind our own front.
Run as `python -m bench.echo`; it stops on SIGTERM.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import uvloop

Options = Sequence[tuple[str, int]]

SERVICE, METHOD = "bench.Echo", "Echo"


async def echo(message: bytes, _: Any) -> bytes:
    """What came."""
    return message


async def serve(make: Callable[[Options], Any]) -> None:
    """Serves on a free loopback port until SIGTERM; says where on stderr in one JSON line, as the service."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    server = make((("grpc.so_reuseport", 0),))
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        METHOD: grpc.unary_unary_rpc_method_handler(echo)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"message": "ready", "listen": f"127.0.0.1:{port}"}), file=sys.stderr, flush=True)
    await stopping.wait()
    await server.stop(grace=1)


if __name__ == "__main__":
    uvloop.run(serve(lambda options: grpc.aio.server(options=options)))
