"""What a refused call comes with."""

import grpc
import pytest
from grpc_status import rpc_status


async def refusal(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert len(caught.value.details().encode()) <= 512
    return caught.value


def detail(error: grpc.aio.AioRpcError, kind):
    """The google.rpc detail of a kind."""
    for packed in rpc_status.from_call(error).details:
        if packed.Is(kind.DESCRIPTOR):
            found = kind()
            packed.Unpack(found)
            return found
    raise AssertionError(f"no {kind.__name__} in {error}")
