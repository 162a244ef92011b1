"""The floor under every figure: a gRPC server that sends each message back, and does nothing else.

The same library, event loop and socket as the service has, without protobuf and without a model: whatever a
call costs here, no service in Python gets below it. Run as `python -m bench.echo`; it stops on SIGTERM.
"""

import asyncio
import json
import signal
import sys
from typing import Any

import grpc
import uvloop

SERVICE, METHOD = "bench.Echo", "Echo"


async def echo(message: bytes, _: Any) -> bytes:
    """What came."""
    return message


async def serve() -> None:
    """Serves on a free loopback port until SIGTERM; says where on stderr in one JSON line, as the service."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        METHOD: grpc.unary_unary_rpc_method_handler(echo)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"message": "ready", "listen": f"127.0.0.1:{port}"}), file=sys.stderr, flush=True)
    await stopping.wait()
    await server.stop(grace=1)


if __name__ == "__main__":
    uvloop.run(serve())
