"""The two fronts, as parameters of a fixture `front`: what must hold with either."""

import pytest

from service import calls

FRONTS = (
    pytest.param(
        "core", marks=pytest.mark.skipif(calls.load() is None, reason="needs libgrpc-dev, then `make native`")
    ),
    "aio",
)
