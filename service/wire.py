"""Messages of chairlift.v1 from and to the service's own types. Holds no state and awaits nothing."""

from chairlift.v1 import seq2seq_pb2 as pb
from service.errors import InvalidRequest, ServiceError
from service.models import Answer, Chunk, Model
from service.sequence import Outcome
from service.status import code_of, text_of

FINISH_REASONS = {Outcome.EOS: pb.FINISH_REASON_EOS, Outcome.LENGTH: pb.FINISH_REASON_LENGTH}


def reference(model: Model) -> pb.ModelReference:
    """Which model version answered."""
    manifest = model.manifest
    return pb.ModelReference(name=manifest.name, version=manifest.version, digest=model.bundle.digest)


def generation(answer: Answer) -> pb.Generation:
    """An answer."""
    hypothesis = pb.Hypothesis(
        text=answer.text,
        token_ids=answer.token_ids,
        score=answer.score,
        finish_reason=FINISH_REASONS[answer.outcome],
    )
    return pb.Generation(
        hypotheses=[hypothesis],
        source_length=answer.source_length,
        unknown_tokens=answer.unknown_tokens,
    )


def result(answer: Answer | ServiceError) -> pb.Result:
    """An answer, or the error of one input among several."""
    if isinstance(answer, Answer):
        return pb.Result(generation=generation(answer))
    field = answer.violations[0].field if isinstance(answer, InvalidRequest) else ""
    return pb.Result(error=pb.Error(code=code_of(answer).value[0], message=text_of(answer), field=field))


def event(news: Chunk | Answer, model: Model) -> pb.GenerateStreamResponse:
    """One message of a stream."""
    if isinstance(news, Answer):
        ended = pb.StreamResult(model=reference(model), generation=generation(news))
        return pb.GenerateStreamResponse(result=ended)
    chunk = pb.TokenChunk(
        index=news.index, token_ids=news.token_ids, text=news.text, log_probabilities=news.scores
    )
    return pb.GenerateStreamResponse(tokens=chunk)


def description(model: Model, is_default: bool, vocabularies: bool) -> pb.Model:
    """Everything that a caller may know of a model."""
    manifest = model.manifest
    card, limits, architecture = manifest.card, manifest.limits, manifest.architecture
    return pb.Model(
        reference=reference(model),
        ready=True,
        is_default=is_default,
        card=pb.ModelCard(
            title=card.title,
            description=card.description,
            licence=card.licence,
            data=[
                pb.DataSource(
                    name=d.name, licence=d.licence, split=d.split, examples=d.examples, sha256=d.sha256
                )
                for d in card.data
            ],
            scores=[
                pb.Score(
                    dataset=s.dataset, metric=s.metric, value=s.value, sources=s.sources, decoding=s.decoding
                )
                for s in card.scores
            ],
            training_commit=card.training_commit,
        ),
        limits=pb.Limits(
            max_source_length=limits.max_source_length,
            max_target_length=limits.max_target_length,
            max_inputs=model.max_inputs,
        ),
        profiles=[profile.name for profile in manifest.profiles],
        profile=manifest.profiles[0].name,
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
        ),
        source_tokens=model.bundle.source.tokens if vocabularies else (),
        target_tokens=model.bundle.target.tokens if vocabularies else (),
    )
