"""The echo of bench/echo.py behind the service's compiled front: `python -m bench.core_echo`."""

import uvloop

from bench.echo import serve
from service.front import front

if __name__ == "__main__":
    uvloop.run(serve(lambda options: front("core", options)[1]))
