"""The asyncio client: the twin of Client, method for method."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Unpack

import grpc

from chairlift import description_wire, wire
from chairlift.connection import CHANNEL_OPTIONS, DEFAULT_SERVER
from chairlift.decoding import Decoding
from chairlift.description import Model
from chairlift.errors import InvalidRequest, calling
from chairlift.results import Generation, InputError, TargetScore, TokenChunk
from chairlift.v1 import seq2seq_pb2 as pb
from chairlift.v1.seq2seq_pb2_grpc import Seq2SeqServiceStub


class AsyncClient:
    """`Client` for asyncio: the same arguments, results and errors. Make it inside the running event loop.

    Cancelling the task that awaits a call hangs up, which frees the server.
    """

    def __init__(
        self, server: str = DEFAULT_SERVER, *, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(server, CHANNEL_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(server, credentials, CHANNEL_OPTIONS)
        self._stub = Seq2SeqServiceStub(self._channel)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hangs up. Tasks that await a call are cancelled."""
        await self._channel.close()

    async def generate(
        self,
        inputs: str | Sequence[str],
        *,
        model: str = "",
        version: int = 0,
        priority: int = 0,
        timeout_seconds: float = 10.0,
        **options: Unpack[Decoding],
    ) -> list[Generation | InputError]:
        """As `Client.generate`."""
        try:
            request = wire.generate_request(inputs, wire.selector(model, version), priority, options)
            with calling(timeout_seconds):
                response: pb.GenerateResponse = await self._stub.Generate(request, timeout=timeout_seconds)
        except InvalidRequest as error:
            return [wire.lone_input_error(inputs, error)]
        return wire.results(request, response)

    async def stream(
        self,
        text: str,
        *,
        model: str = "",
        version: int = 0,
        priority: int = 0,
        timeout_seconds: float = 10.0,
        **options: Unpack[Decoding],
    ) -> AsyncGenerator[TokenChunk | Generation, None]:
        """As `Client.stream`. Inside `contextlib.aclosing`, leaving the loop early hangs up at once."""
        request = wire.stream_request(text, wire.selector(model, version), priority, options)
        reader = wire.StreamReader()
        with calling(timeout_seconds):
            call = self._stub.GenerateStream(request, timeout=timeout_seconds)
            try:
                async for message in call:
                    yield reader.read(message)
            finally:
                call.cancel()
        reader.end()

    async def score(
        self,
        inputs: str | Sequence[str],
        targets: str | Sequence[str],
        *,
        model: str = "",
        version: int = 0,
        priority: int = 0,
        timeout_seconds: float = 10.0,
    ) -> list[TargetScore | InputError]:
        """As `Client.score`."""
        try:
            request = wire.score_request(inputs, targets, wire.selector(model, version), priority)
            with calling(timeout_seconds):
                response: pb.ScoreResponse = await self._stub.Score(request, timeout=timeout_seconds)
        except InvalidRequest as error:
            return [wire.lone_input_error(inputs, error)]
        return wire.score_results(request, response)

    async def models(self, *, timeout_seconds: float = 10.0) -> list[Model]:
        """As `Client.models`."""
        with calling(timeout_seconds):
            response: pb.ListModelsResponse = await self._stub.ListModels(
                pb.ListModelsRequest(), timeout=timeout_seconds
            )
        return [description_wire.model(message) for message in response.models]

    async def model(self, name: str = "", version: int = 0, *, timeout_seconds: float = 10.0) -> Model:
        """As `Client.model`."""
        request = pb.GetModelRequest(model=wire.selector(name, version))
        with calling(timeout_seconds):
            response: pb.GetModelResponse = await self._stub.GetModel(request, timeout=timeout_seconds)
        return description_wire.model(response.model)
