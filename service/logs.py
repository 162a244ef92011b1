"""Logs: one JSON object a line on standard error. No code of ours logs a request's text."""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def configure(level: str) -> None:
    """Sends every record of the given level and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            json_ensure_ascii=True,
        )
    )
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_not_a_hang_up)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _is_not_a_hang_up(record: logging.LogRecord) -> bool:
    """gRPC calls it an error when a caller leaves while the answer is on its way."""
    return "ExecuteBatchError" not in record.getMessage()
