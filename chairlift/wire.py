"""Between the wire's messages and the client's values, for both clients. Does no I/O.

Knows nothing of what a server says of its models: description_wire.py does.
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from chairlift import decoding
from chairlift.decoding import Decoding
from chairlift.description_wire import reference
from chairlift.errors import FieldViolation, InvalidRequest, broken_contract
from chairlift.results import (
    Alternatives,
    AnswerSource,
    FinishReason,
    Generation,
    Hypothesis,
    InputError,
    ModelReference,
    TargetScore,
    TokenChunk,
)
from chairlift.v1 import seq2seq_pb2 as pb

FINISH_REASONS = {
    pb.FINISH_REASON_EOS: FinishReason.EOS,
    pb.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    pb.FINISH_REASON_LOOP: FinishReason.LOOP,
    pb.FINISH_REASON_CONSTRAINT: FinishReason.CONSTRAINT,
    pb.FINISH_REASON_DEADLINE: FinishReason.DEADLINE,
}
ANSWER_SOURCES = {
    pb.ANSWER_SOURCE_MODEL: AnswerSource.MODEL,
    pb.ANSWER_SOURCE_LEXICON: AnswerSource.LEXICON,
}
MAX_REQUEST_BYTES = 1 << 20  # of one message to a server
CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def generate_request(
    inputs: str | Sequence[str], model: pb.ModelSelector, priority: int, options: Decoding
) -> pb.GenerateRequest:
    """The message for one input or many.

    Raises ValueError for text that UTF-8 cannot hold, as all of these, and InvalidRequest for too much of it.
    """
    request = pb.GenerateRequest(
        model=model, inputs=_listed(inputs), options=decoding.message(options), priority=priority
    )
    _refuse_large(request, "inputs[0]" if len(request.inputs) == 1 else "inputs")
    return request


def stream_request(
    text: str, model: pb.ModelSelector, priority: int, options: Decoding
) -> pb.GenerateStreamRequest:
    """The message for a stream."""
    request = pb.GenerateStreamRequest(
        model=model, input=text, options=decoding.message(options), priority=priority
    )
    _refuse_large(request, "input")
    return request


def score_request(
    inputs: str | Sequence[str], targets: str | Sequence[str], model: pb.ModelSelector, priority: int
) -> pb.ScoreRequest:
    """The message for one pair or many."""
    request = pb.ScoreRequest(
        model=model, inputs=_listed(inputs), targets=_listed(targets), priority=priority
    )
    _refuse_large(request, "inputs[0]" if len(request.inputs) == 1 else "inputs")
    return request


def _refuse_large(
    request: pb.GenerateRequest | pb.GenerateStreamRequest | pb.ScoreRequest, field: str
) -> None:
    """Raises InvalidRequest for what no server takes, and would refuse as if it were over capacity."""
    if (size := request.ByteSize()) > MAX_REQUEST_BYTES:
        reason = f"the request has {size} bytes; {MAX_REQUEST_BYTES} are allowed"
        violation = FieldViolation(field, reason)
        raise InvalidRequest(f"{field}: {reason}", grpc.StatusCode.INVALID_ARGUMENT, (violation,))


def _listed(texts: str | Sequence[str]) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else texts


def selector(name: str, version: int) -> pb.ModelSelector:
    return pb.ModelSelector(name=name, version=version)


def results(request: pb.GenerateRequest, response: pb.GenerateResponse) -> list[Generation | InputError]:
    """One value an input, in order. Raises ServerError where the response does not match the request."""
    if len(response.results) != len(request.inputs):
        raise broken_contract(f"{len(response.results)} results for {len(request.inputs)} inputs")
    model = reference(response.model)
    return [_result(result, model) for result in response.results]


def score_results(request: pb.ScoreRequest, response: pb.ScoreResponse) -> list[TargetScore | InputError]:
    """One value a pair, in order. Raises ServerError where the response does not match the request."""
    if len(response.results) != len(request.inputs):
        raise broken_contract(f"{len(response.results)} results for {len(request.inputs)} inputs")
    model = reference(response.model)
    return [_score_result(result, model) for result in response.results]


def lone_input_error(inputs: str | Sequence[str], error: InvalidRequest) -> InputError:
    """What a sequence of one bad input gets: its error as a value, as it would among others.

    The wire gives the error of an only input as the status of the call. Raises it again where the input was a
    plain string, or where it is not the input that is at fault.
    """
    if isinstance(inputs, str) or len(inputs) != 1:
        raise error
    return input_error(error, "inputs[0]", "targets[0]")


def input_error(error: InvalidRequest, *fields: str) -> InputError:
    """The error as that of the input in one of `fields`. Raises it again where another field is at fault."""
    for violation in error.violations:
        if violation.field in fields:
            return InputError(error.code.name, violation.description, violation.field)
    raise error


class StreamReader:
    """Reads one stream and holds it to the contract: no gaps, and exactly one result, at the end."""

    def __init__(self) -> None:
        self._next_index = 0
        self._finished = False

    def read(self, message: pb.GenerateStreamResponse) -> TokenChunk | Generation:
        """The next value of the stream. Raises ServerError where it cannot follow what came before."""
        if self._finished:
            raise broken_contract("a message after the result")
        kind = message.WhichOneof("event")
        if kind == "result":
            self._finished = True
            return _generation(message.result.generation, reference(message.result.model))
        if kind != "tokens":
            raise broken_contract("a message without tokens or a result")
        chunk = message.tokens
        if chunk.index != self._next_index:
            raise broken_contract(f"a chunk at token {chunk.index} where {self._next_index} comes next")
        self._next_index += len(chunk.token_ids)
        return TokenChunk(chunk.index, tuple(chunk.token_ids), chunk.text, tuple(chunk.log_probabilities))

    def end(self) -> None:
        """Raises ServerError where the stream ended well but without a result."""
        if not self._finished:
            raise broken_contract("a stream that ends without a result")


def _result(message: pb.Result, model: ModelReference) -> Generation | InputError:
    kind = message.WhichOneof("outcome")
    if kind == "generation":
        return _generation(message.generation, model)
    if kind != "error":
        raise broken_contract("a result without a generation or an error")
    return _error(message.error)


def _score_result(message: pb.ScoreResult, model: ModelReference) -> TargetScore | InputError:
    kind = message.WhichOneof("outcome")
    if kind == "error":
        return _error(message.error)
    if kind != "score":
        raise broken_contract("a result without a score or an error")
    found = message.score
    return TargetScore(
        found.score,
        tuple(found.token_ids),
        tuple(found.log_probabilities),
        found.source_length,
        found.unknown_tokens,
        model,
    )


def _error(message: pb.Error) -> InputError:
    """`message` without the field that it begins with, as where an only input is bad."""
    said = message.message.removeprefix(f"{message.field}: ")
    return InputError(CODE_NAMES.get(message.code, str(message.code)), said, message.field)


def _generation(message: pb.Generation, model: ModelReference) -> Generation:
    if not message.hypotheses:
        raise broken_contract("a generation without a hypothesis")
    hypotheses = tuple(map(_hypothesis, message.hypotheses))
    source = ANSWER_SOURCES.get(message.source, AnswerSource.UNSPECIFIED)
    return Generation(hypotheses, message.source_length, message.unknown_tokens, model, source)


def _hypothesis(message: pb.Hypothesis) -> Hypothesis:
    return Hypothesis(
        text=message.text,
        token_ids=tuple(message.token_ids),
        score=message.score,
        finish_reason=FINISH_REASONS.get(message.finish_reason, FinishReason.UNSPECIFIED),
        normalised_score=message.normalised_score,
        log_probabilities=tuple(message.log_probabilities),
        alternatives=tuple(
            Alternatives(tuple(best.token_ids), tuple(best.log_probabilities))
            for best in message.alternatives
        ),
        alignments=tuple(tuple(alignment.weights) for alignment in message.alignments),
        confidence=message.confidence if message.HasField("confidence") else None,
    )
