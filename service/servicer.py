"""The methods of chairlift.v1.Seq2SeqService: convert, await, convert.

Knows neither status codes nor metrics: server.py wraps every method in both.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from chairlift.v1 import seq2seq_pb2 as pb
from service import wire
from service.models import Models, deadline_after


class Servicer:
    """`seconds` is what the caller's deadline leaves, None where it has none. Raises ServiceErrors."""

    def __init__(self, models: Models, max_request_seconds: float) -> None:
        self._models = models
        self._longest = max_request_seconds

    async def generate(self, request: pb.GenerateRequest, seconds: float | None) -> pb.GenerateResponse:
        """Answers for many inputs, in their order."""
        deadline = deadline_after(seconds, self._longest)
        model = self._models.select(request.model.name, request.model.version)
        answers = await model.generate(request.inputs, request.options.max_length, deadline)
        results = [wire.result(answer) for answer in answers]
        return pb.GenerateResponse(model=wire.reference(model), results=results)

    async def generate_stream(
        self, request: pb.GenerateStreamRequest, seconds: float | None
    ) -> AsyncGenerator[pb.GenerateStreamResponse, None]:
        """Tokens of one input as they are decided, then the answer."""
        deadline = deadline_after(seconds, self._longest)
        model = self._models.select(request.model.name, request.model.version)
        async with aclosing(model.stream(request.input, request.options.max_length, deadline)) as news:
            async for item in news:
                yield wire.event(item, model)

    async def list_models(self, _: pb.ListModelsRequest, __: float | None) -> pb.ListModelsResponse:
        """Every model version."""
        default = self._models.select("", 0)
        return pb.ListModelsResponse(
            models=[wire.description(model, model is default, False) for model in self._models.all()]
        )

    async def get_model(self, request: pb.GetModelRequest, _: float | None) -> pb.GetModelResponse:
        """One model version, with its vocabularies."""
        model = self._models.select(request.model.name, request.model.version)
        default = self._models.select("", 0)
        return pb.GetModelResponse(model=wire.description(model, model is default, True))
