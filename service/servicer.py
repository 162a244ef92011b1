"""The methods of chairlift.v1.Seq2SeqService: convert, await, convert.

Knows neither status codes nor metrics: server.py wraps every method in both.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from chairlift.v1 import seq2seq_pb2 as pb
from service import requests, wire
from service.catalogue import Models
from service.models import Model
from service.options import Options

EARLY_SECONDS = 0.05  # at most, and at most a tenth of the time


class Servicer:
    """`seconds` is what the caller's deadline leaves, None where it has none. Raises ServiceErrors."""

    def __init__(self, models: Models, max_request_seconds: float) -> None:
        self._models = models
        self._longest = max_request_seconds

    async def generate(self, request: pb.GenerateRequest, seconds: float | None) -> pb.GenerateResponse:
        """Answers for many inputs, in their order."""
        model, options, deadline, priority = self._asked(request, len(request.inputs), seconds)
        answers = await model.generate(request.inputs, options, deadline, priority)
        return wire.response(model, answers, request.options)

    async def generate_stream(
        self, request: pb.GenerateStreamRequest, seconds: float | None
    ) -> AsyncGenerator[pb.GenerateStreamResponse, None]:
        """Tokens of one input as they are decided, then the answer."""
        model, options, deadline, priority = self._asked(request, 1, seconds)
        async with aclosing(model.stream(request.input, options, deadline, priority)) as news:
            async for item in news:
                yield wire.event(item, model, request.options)

    async def score(self, request: pb.ScoreRequest, seconds: float | None) -> pb.ScoreResponse:
        """How probable each target is, given its input."""
        model = self._models.select(request.model.name, request.model.version)
        targets, priority = await requests.targets(request, model), requests.priority(request.priority)
        deadline = self._deadline(seconds)
        answers = await model.score(request.inputs, targets, deadline, priority)
        results = [wire.score_result(answer) for answer in answers]
        return pb.ScoreResponse(model=wire.reference(model), results=results)

    async def list_models(self, _: pb.ListModelsRequest, __: float | None) -> pb.ListModelsResponse:
        """Every model version."""
        default = self._models.select("", 0)
        described = [wire.description(model, model is default, False) for model in self._models.all()]
        described += [wire.unready(*reference) for reference in self._models.unready]
        described.sort(key=lambda model: (model.reference.name, model.reference.version))
        return pb.ListModelsResponse(models=described)

    async def get_model(self, request: pb.GetModelRequest, _: float | None) -> pb.GetModelResponse:
        """One model version, with its vocabularies."""
        model = self._models.select(request.model.name, request.model.version)
        default = self._models.select("", 0)
        return pb.GetModelResponse(model=wire.description(model, model is default, True))

    def _asked(
        self, request: pb.GenerateRequest | pb.GenerateStreamRequest, inputs: int, seconds: float | None
    ) -> tuple[Model, Options, float, int]:
        """Who is to decode so many inputs, how, until when, and how urgently."""
        model = self._models.select(request.model.name, request.model.version)
        options, priority = requests.options(request.options, model), requests.priority(request.priority)
        most = min(inputs, model.max_inputs)  # more are refused for their number
        requests.refuse_floods(options, request.options.log_probabilities, most, model)
        return model, options, self._deadline(_time_for(options, seconds)), priority

    def _deadline(self, seconds: float | None) -> float:
        """On the monotonic clock: the caller's, but not past the server's longest."""
        return time.monotonic() + (self._longest if seconds is None else min(seconds, self._longest))


def _time_for(options: Options, seconds: float | None) -> float | None:
    """Seconds that decoding may take: a little less where what there is at the deadline must still arrive."""
    if seconds is None or not options.partial_on_deadline:
        return seconds
    return seconds - min(EARLY_SECONDS, seconds / 10)
