"""The service's own types to messages of chairlift.v1. Holds no state and awaits nothing."""

import functools
from collections.abc import Sequence

from msgspec import to_builtins

from bundle.card import Score
from chairlift.v1 import seq2seq_pb2 as pb
from service.errors import InvalidRequest, ServiceError
from service.hypothesis import Hypothesis
from service.models import Model
from service.results import Answer, Chunk
from service.status import code_of, text_of

FINISH_REASONS = {
    "eos": pb.FINISH_REASON_EOS,
    "length": pb.FINISH_REASON_LENGTH,
    "loop": pb.FINISH_REASON_LOOP,
    "constraint": pb.FINISH_REASON_CONSTRAINT,
    "deadline": pb.FINISH_REASON_DEADLINE,
}


ANSWER_SOURCES = {"model": pb.ANSWER_SOURCE_MODEL, "lexicon": pb.ANSWER_SOURCE_LEXICON}


def reference(model: Model) -> pb.ModelReference:
    """Which model version answered."""
    return _reference(model.manifest.name, model.manifest.version, model.digest)


@functools.cache  # copied into each response; not by model, which would never be forgotten
def _reference(name: str, version: int, digest: str) -> pb.ModelReference:
    return pb.ModelReference(name=name, version=version, digest=digest)


def response(
    model: Model, answers: Sequence[Answer | ServiceError], asked: pb.DecodingOptions
) -> pb.GenerateResponse:
    """The answers of one call, in their order."""
    message = pb.GenerateResponse(model=reference(model))
    for answer in answers:
        result = message.results.add()
        if isinstance(answer, Answer):
            _write_generation(result.generation, answer, asked)
        else:
            result.error.CopyFrom(_error(answer))
    return message


def _write_generation(message: pb.Generation, answer: Answer, asked: pb.DecodingOptions) -> None:
    """An answer, with as much of it as was asked for. Written in place: a message made apart is copied in."""
    message.source_length = answer.source_length
    message.unknown_tokens = answer.unknown_tokens
    message.source = ANSWER_SOURCES[answer.source]
    for found in zip(answer.hypotheses, answer.texts, answer.confidences, strict=True):
        _add_hypothesis(message, *found, asked)


def _add_hypothesis(
    generation: pb.Generation,
    found: Hypothesis,
    text: str,
    confidence: float | None,
    asked: pb.DecodingOptions,
) -> None:
    message = generation.hypotheses.add()
    message.text = text
    message.token_ids.extend(found.tokens)
    message.score, message.normalised_score = found.score, found.normalised
    message.finish_reason = FINISH_REASONS[found.reason]
    if confidence is not None:
        message.confidence = confidence
    if asked.log_probabilities:
        message.log_probabilities.extend(found.scores)
    for best in found.alternatives:
        ids, scores = zip(*best, strict=True)
        message.alternatives.add(token_ids=ids, log_probabilities=scores)
    for weights in found.alignments:
        message.alignments.add(weights=weights)


def score_result(answer: Answer | ServiceError) -> pb.ScoreResult:
    """A target's score, or the error of one pair among several."""
    if not isinstance(answer, Answer):
        return pb.ScoreResult(error=_error(answer))
    [found] = answer.hypotheses
    score = pb.TargetScore(
        score=found.score,
        token_ids=found.tokens,
        log_probabilities=found.scores,
        source_length=answer.source_length,
        unknown_tokens=answer.unknown_tokens,
    )
    return pb.ScoreResult(score=score)


def _error(error: ServiceError) -> pb.Error:
    field = error.violations[0].field if isinstance(error, InvalidRequest) else ""
    return pb.Error(code=code_of(error).value[0], message=text_of(error), field=field)


def event(news: Chunk | Answer, model: Model, asked: pb.DecodingOptions) -> pb.GenerateStreamResponse:
    """One message of a stream."""
    if isinstance(news, Answer):
        message = pb.GenerateStreamResponse()
        message.result.model.CopyFrom(reference(model))
        _write_generation(message.result.generation, news, asked)
        return message
    chunk = pb.TokenChunk(
        index=news.index, token_ids=news.token_ids, text=news.text, log_probabilities=news.scores
    )
    return pb.GenerateStreamResponse(tokens=chunk)


def description(model: Model, is_default: bool, vocabularies: bool) -> pb.Model:
    """Everything that a caller may know of a model. Parts of a bundle's card have the names of the wire."""
    manifest = model.manifest
    card, limits, architecture = manifest.card, manifest.limits, manifest.architecture
    cascade, calibration = manifest.cascade, manifest.calibration
    return pb.Model(
        reference=reference(model),
        ready=True,
        is_default=is_default,
        card=pb.ModelCard(
            title=card.title,
            description=card.description,
            licence=card.licence,
            data=[pb.DataSource(**to_builtins(source)) for source in card.data],
            scores=map(_score, card.scores),
            training_commit=card.training_commit,
            speed=pb.Speed(**to_builtins(card.speed)) if card.speed else None,
        ),
        limits=pb.Limits(
            max_source_length=limits.max_source_length,
            max_target_length=limits.max_target_length,
            max_inputs=model.max_inputs,
            max_beam_size=model.max_beam_size,
        ),
        profiles=[profile.name for profile in manifest.profiles],
        profile=model.profile,
        device=model.device,
        architecture=pb.Architecture(
            cell=architecture.cell,
            encoder_layers=architecture.encoder_layers,
            decoder_layers=architecture.decoder_layers,
            embedding_size=architecture.embedding_size,
            hidden_size=architecture.hidden_size,
            bidirectional=architecture.bidirectional,
            attention=architecture.attention,
            parameters=architecture.parameters,
            encoder_hidden_size=architecture.encoder_hidden_size,
            input_feeding=architecture.input_feeding,
            context=architecture.context,
        ),
        source_tokens=model.bundle.source.tokens if vocabularies else (),
        target_tokens=model.bundle.target.tokens if vocabularies else (),
        cascade=pb.Cascade(**to_builtins(cascade)) if cascade else None,
        calibration=pb.Calibration(**to_builtins(calibration)) if calibration else None,
        lexicon_entries=model.lexicon_entries,
    )


def unready(name: str, version: int) -> pb.Model:
    """All that is said of a model version that could not be loaded."""
    return pb.Model(reference=pb.ModelReference(name=name, version=version))


def _score(measured: Score) -> pb.Score:
    interval = measured.interval_95
    return pb.Score(
        dataset=measured.dataset,
        metric=measured.metric,
        value=measured.value,
        sources=measured.sources,
        decoding=measured.decoding,
        interval_95=pb.Interval(low=interval[0], high=interval[1]) if interval else None,
    )
