"""From the wire's messages about models to the client's values. Does no I/O, and knows nothing of answers."""

from __future__ import annotations

from chairlift.description import (
    Architecture,
    Calibration,
    Cascade,
    DataSource,
    Limits,
    Model,
    ModelCard,
    Precision,
    Score,
    Speed,
    Timing,
)
from chairlift.results import ModelReference
from chairlift.v1 import seq2seq_pb2 as pb


def model(message: pb.Model) -> Model:
    """One model version."""
    return Model(
        reference=reference(message.reference),
        ready=message.ready,
        is_default=message.is_default,
        card=_card(message.card),
        limits=Limits(
            message.limits.max_source_length,
            message.limits.max_target_length,
            message.limits.max_inputs,
            message.limits.max_beam_size,
        ),
        profiles=tuple(message.profiles),
        profile=message.profile,
        device=message.device,
        architecture=_architecture(message.architecture),
        source_tokens=tuple(message.source_tokens),
        target_tokens=tuple(message.target_tokens),
        cascade=_cascade(message.cascade) if message.HasField("cascade") else None,
        calibration=_calibration(message.calibration) if message.HasField("calibration") else None,
        lexicon_entries=message.lexicon_entries,
    )


def reference(message: pb.ModelReference) -> ModelReference:
    """Which model version."""
    return ModelReference(message.name, message.version, message.digest)


def _card(message: pb.ModelCard) -> ModelCard:
    return ModelCard(
        title=message.title,
        description=message.description,
        licence=message.licence,
        data=tuple(
            DataSource(source.name, source.licence, source.split, source.examples, source.sha256)
            for source in message.data
        ),
        scores=tuple(map(_score, message.scores)),
        training_commit=message.training_commit,
        speed=_speed(message.speed) if message.HasField("speed") else None,
    )


def _score(message: pb.Score) -> Score:
    interval = message.interval_95
    return Score(
        dataset=message.dataset,
        metric=message.metric,
        value=message.value,
        sources=message.sources,
        decoding=message.decoding,
        interval_95=(interval.low, interval.high) if message.HasField("interval_95") else None,
    )


def _speed(message: pb.Speed) -> Speed:
    return Speed(
        machine=message.machine,
        runtime=message.runtime,
        threads=message.threads,
        source_length=message.source_length,
        timings=tuple(
            Timing(t.profile, t.rows, t.source_microseconds, t.step_microseconds) for t in message.timings
        ),
    )


def _architecture(message: pb.Architecture) -> Architecture:
    return Architecture(
        cell=message.cell,
        encoder_layers=message.encoder_layers,
        decoder_layers=message.decoder_layers,
        embedding_size=message.embedding_size,
        hidden_size=message.hidden_size,
        bidirectional=message.bidirectional,
        attention=message.attention,
        parameters=message.parameters,
        encoder_hidden_size=message.encoder_hidden_size,
        input_feeding=message.input_feeding,
        context=message.context,
    )


def _cascade(message: pb.Cascade) -> Cascade:
    return Cascade(
        beam_size=message.beam_size,
        margin=message.margin,
        profile=message.profile,
        dataset=message.dataset,
        sources=message.sources,
        beam_share=message.beam_share,
        greedy_wer=message.greedy_wer,
        cascade_wer=message.cascade_wer,
        beam_wer=message.beam_wer,
    )


def _calibration(message: pb.Calibration) -> Calibration:
    return Calibration(
        temperature=message.temperature,
        bias=message.bias,
        smoothing=message.smoothing,
        ceiling=message.ceiling,
        profile=message.profile,
        dataset=message.dataset,
        sources=message.sources,
        measured_on=message.measured_on,
        measured_sources=message.measured_sources,
        expected_error=message.expected_error,
        precisions=tuple(Precision(p.confidence, p.coverage, p.precision) for p in message.precisions),
    )
