"""The blocking client. Safe to share between threads; AsyncClient is its twin for asyncio."""

from __future__ import annotations

from collections.abc import Generator, Sequence
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


class Client:
    """One connection to a server, or to several behind one name such as `dns:///chairlift:50051`.

    Connects with the first call; close it, or use it as a context manager. With `credentials`, such as
    `grpc.ssl_channel_credentials()`, it speaks TLS. Every method raises `ChairliftError` when the call fails,
    after up to three attempts where trying again makes sense, and never later than `timeout_seconds`.
    Arguments that contradict each other, text that UTF-8 cannot hold and a closed client raise ValueError.
    """

    def __init__(
        self, server: str = DEFAULT_SERVER, *, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        if credentials is None:
            self._channel = grpc.insecure_channel(server, CHANNEL_OPTIONS)
        else:
            self._channel = grpc.secure_channel(server, credentials, CHANNEL_OPTIONS)
        self._stub = Seq2SeqServiceStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hangs up. Calls that are open fail with `ChairliftError`."""
        self._channel.close()

    def generate(
        self,
        inputs: str | Sequence[str],
        *,
        model: str = "",
        version: int = 0,
        priority: int = 0,
        timeout_seconds: float = 10.0,
        **options: Unpack[Decoding],
    ) -> list[Generation | InputError]:
        """Decodes one input or many; one result an input, in order.

        In a sequence, even of one, a bad input becomes an `InputError` and its neighbours have their answers;
        a plain string that is bad raises `InvalidRequest`. Defaults: the server's default model, its highest
        version that is ready, plain greedy decoding; `Decoding` lists the options.
        """
        try:
            request = wire.generate_request(inputs, wire.selector(model, version), priority, options)
            with calling(timeout_seconds):
                response: pb.GenerateResponse = self._stub.Generate(request, timeout=timeout_seconds)
        except InvalidRequest as error:
            return [wire.lone_input_error(inputs, error)]
        return wire.results(request, response)

    def stream(
        self,
        text: str,
        *,
        model: str = "",
        version: int = 0,
        priority: int = 0,
        timeout_seconds: float = 10.0,
        **options: Unpack[Decoding],
    ) -> Generator[TokenChunk | Generation, None, None]:
        """Decodes one input and yields tokens as they are decided, then the whole answer as the last item.

        The call starts with the first item asked for. Leaving the loop early hangs up, which frees the
        server. A stream is tried again only while nothing of it has arrived.
        """
        request = wire.stream_request(text, wire.selector(model, version), priority, options)
        reader = wire.StreamReader()
        with calling(timeout_seconds):
            call = self._stub.GenerateStream(request, timeout=timeout_seconds)
            try:
                for message in call:
                    yield reader.read(message)
            finally:
                call.cancel()
        reader.end()

    def score(
        self,
        inputs: str | Sequence[str],
        targets: str | Sequence[str],
        *,
        model: str = "",
        version: int = 0,
        priority: int = 0,
        timeout_seconds: float = 10.0,
    ) -> list[TargetScore | InputError]:
        """The log-probability of each target, given its input; one result a pair, in order.

        A pair that is bad is treated as an input of `generate` is.
        """
        try:
            request = wire.score_request(inputs, targets, wire.selector(model, version), priority)
            with calling(timeout_seconds):
                response: pb.ScoreResponse = self._stub.Score(request, timeout=timeout_seconds)
        except InvalidRequest as error:
            return [wire.lone_input_error(inputs, error)]
        return wire.score_results(request, response)

    def models(self, *, timeout_seconds: float = 10.0) -> list[Model]:
        """Every model version that the server knows, by name and version, without vocabularies."""
        with calling(timeout_seconds):
            response: pb.ListModelsResponse = self._stub.ListModels(
                pb.ListModelsRequest(), timeout=timeout_seconds
            )
        return [description_wire.model(message) for message in response.models]

    def model(self, name: str = "", version: int = 0, *, timeout_seconds: float = 10.0) -> Model:
        """One model version with its vocabularies. Raises `ModelNotFound` where there is none."""
        request = pb.GetModelRequest(model=wire.selector(name, version))
        with calling(timeout_seconds):
            response: pb.GetModelResponse = self._stub.GetModel(request, timeout=timeout_seconds)
        return description_wire.model(response.model)
