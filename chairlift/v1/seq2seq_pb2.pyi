from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_EOS: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_LOOP: _ClassVar[FinishReason]
    FINISH_REASON_CONSTRAINT: _ClassVar[FinishReason]
    FINISH_REASON_DEADLINE: _ClassVar[FinishReason]

class AnswerSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ANSWER_SOURCE_UNSPECIFIED: _ClassVar[AnswerSource]
    ANSWER_SOURCE_MODEL: _ClassVar[AnswerSource]
    ANSWER_SOURCE_LEXICON: _ClassVar[AnswerSource]
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_EOS: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_LOOP: FinishReason
FINISH_REASON_CONSTRAINT: FinishReason
FINISH_REASON_DEADLINE: FinishReason
ANSWER_SOURCE_UNSPECIFIED: AnswerSource
ANSWER_SOURCE_MODEL: AnswerSource
ANSWER_SOURCE_LEXICON: AnswerSource

class ModelSelector(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class DecodingOptions(_message.Message):
    __slots__ = ("max_length", "min_length", "beam_size", "n_best", "length_penalty", "cascade_margin", "sampling", "prefix", "allowed_tokens", "banned_tokens", "biases", "lexicon", "no_repeat_ngram", "loop_repeats", "alternatives", "log_probabilities", "partial_on_deadline", "cascade", "alignments")
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MIN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    BEAM_SIZE_FIELD_NUMBER: _ClassVar[int]
    N_BEST_FIELD_NUMBER: _ClassVar[int]
    LENGTH_PENALTY_FIELD_NUMBER: _ClassVar[int]
    CASCADE_MARGIN_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    BANNED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    BIASES_FIELD_NUMBER: _ClassVar[int]
    LEXICON_FIELD_NUMBER: _ClassVar[int]
    NO_REPEAT_NGRAM_FIELD_NUMBER: _ClassVar[int]
    LOOP_REPEATS_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_ON_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    CASCADE_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    max_length: int
    min_length: int
    beam_size: int
    n_best: int
    length_penalty: float
    cascade_margin: float
    sampling: Sampling
    prefix: str
    allowed_tokens: _containers.RepeatedScalarFieldContainer[str]
    banned_tokens: _containers.RepeatedScalarFieldContainer[str]
    biases: _containers.RepeatedCompositeFieldContainer[TokenBias]
    lexicon: _containers.RepeatedScalarFieldContainer[str]
    no_repeat_ngram: int
    loop_repeats: int
    alternatives: int
    log_probabilities: bool
    partial_on_deadline: bool
    cascade: bool
    alignments: bool
    def __init__(self, max_length: _Optional[int] = ..., min_length: _Optional[int] = ..., beam_size: _Optional[int] = ..., n_best: _Optional[int] = ..., length_penalty: _Optional[float] = ..., cascade_margin: _Optional[float] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., prefix: _Optional[str] = ..., allowed_tokens: _Optional[_Iterable[str]] = ..., banned_tokens: _Optional[_Iterable[str]] = ..., biases: _Optional[_Iterable[_Union[TokenBias, _Mapping]]] = ..., lexicon: _Optional[_Iterable[str]] = ..., no_repeat_ngram: _Optional[int] = ..., loop_repeats: _Optional[int] = ..., alternatives: _Optional[int] = ..., log_probabilities: _Optional[bool] = ..., partial_on_deadline: _Optional[bool] = ..., cascade: _Optional[bool] = ..., alignments: _Optional[bool] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("seed", "temperature", "top_k", "top_p")
    SEED_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    seed: int
    temperature: float
    top_k: int
    top_p: float
    def __init__(self, seed: _Optional[int] = ..., temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ...) -> None: ...

class TokenBias(_message.Message):
    __slots__ = ("token", "bias")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    token: str
    bias: float
    def __init__(self, token: _Optional[str] = ..., bias: _Optional[float] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("model", "inputs", "options", "priority")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    model: ModelSelector
    inputs: _containers.RepeatedScalarFieldContainer[str]
    options: DecodingOptions
    priority: int
    def __init__(self, model: _Optional[_Union[ModelSelector, _Mapping]] = ..., inputs: _Optional[_Iterable[str]] = ..., options: _Optional[_Union[DecodingOptions, _Mapping]] = ..., priority: _Optional[int] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("model", "results")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    model: ModelReference
    results: _containers.RepeatedCompositeFieldContainer[Result]
    def __init__(self, model: _Optional[_Union[ModelReference, _Mapping]] = ..., results: _Optional[_Iterable[_Union[Result, _Mapping]]] = ...) -> None: ...

class ModelReference(_message.Message):
    __slots__ = ("name", "version", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    digest: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("generation", "error")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    generation: Generation
    error: Error
    def __init__(self, generation: _Optional[_Union[Generation, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Generation(_message.Message):
    __slots__ = ("hypotheses", "source_length", "unknown_tokens", "source")
    HYPOTHESES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    hypotheses: _containers.RepeatedCompositeFieldContainer[Hypothesis]
    source_length: int
    unknown_tokens: int
    source: AnswerSource
    def __init__(self, hypotheses: _Optional[_Iterable[_Union[Hypothesis, _Mapping]]] = ..., source_length: _Optional[int] = ..., unknown_tokens: _Optional[int] = ..., source: _Optional[_Union[AnswerSource, str]] = ...) -> None: ...

class Hypothesis(_message.Message):
    __slots__ = ("text", "token_ids", "score", "finish_reason", "normalised_score", "log_probabilities", "alternatives", "alignments", "confidence")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    NORMALISED_SCORE_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    text: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    score: float
    finish_reason: FinishReason
    normalised_score: float
    log_probabilities: _containers.RepeatedScalarFieldContainer[float]
    alternatives: _containers.RepeatedCompositeFieldContainer[Alternatives]
    alignments: _containers.RepeatedCompositeFieldContainer[Alignment]
    confidence: float
    def __init__(self, text: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ..., score: _Optional[float] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., normalised_score: _Optional[float] = ..., log_probabilities: _Optional[_Iterable[float]] = ..., alternatives: _Optional[_Iterable[_Union[Alternatives, _Mapping]]] = ..., alignments: _Optional[_Iterable[_Union[Alignment, _Mapping]]] = ..., confidence: _Optional[float] = ...) -> None: ...

class Alignment(_message.Message):
    __slots__ = ("weights",)
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    weights: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, weights: _Optional[_Iterable[float]] = ...) -> None: ...

class Alternatives(_message.Message):
    __slots__ = ("token_ids", "log_probabilities")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    log_probabilities: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., log_probabilities: _Optional[_Iterable[float]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "field")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    field: str
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., field: _Optional[str] = ...) -> None: ...

class GenerateStreamRequest(_message.Message):
    __slots__ = ("model", "input", "options", "priority")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    model: ModelSelector
    input: str
    options: DecodingOptions
    priority: int
    def __init__(self, model: _Optional[_Union[ModelSelector, _Mapping]] = ..., input: _Optional[str] = ..., options: _Optional[_Union[DecodingOptions, _Mapping]] = ..., priority: _Optional[int] = ...) -> None: ...

class GenerateStreamResponse(_message.Message):
    __slots__ = ("tokens", "result")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    tokens: TokenChunk
    result: StreamResult
    def __init__(self, tokens: _Optional[_Union[TokenChunk, _Mapping]] = ..., result: _Optional[_Union[StreamResult, _Mapping]] = ...) -> None: ...

class TokenChunk(_message.Message):
    __slots__ = ("index", "token_ids", "text", "log_probabilities")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    index: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    text: str
    log_probabilities: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, index: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ..., text: _Optional[str] = ..., log_probabilities: _Optional[_Iterable[float]] = ...) -> None: ...

class StreamResult(_message.Message):
    __slots__ = ("model", "generation")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    model: ModelReference
    generation: Generation
    def __init__(self, model: _Optional[_Union[ModelReference, _Mapping]] = ..., generation: _Optional[_Union[Generation, _Mapping]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("model", "inputs", "targets", "priority")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    model: ModelSelector
    inputs: _containers.RepeatedScalarFieldContainer[str]
    targets: _containers.RepeatedScalarFieldContainer[str]
    priority: int
    def __init__(self, model: _Optional[_Union[ModelSelector, _Mapping]] = ..., inputs: _Optional[_Iterable[str]] = ..., targets: _Optional[_Iterable[str]] = ..., priority: _Optional[int] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("model", "results")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    model: ModelReference
    results: _containers.RepeatedCompositeFieldContainer[ScoreResult]
    def __init__(self, model: _Optional[_Union[ModelReference, _Mapping]] = ..., results: _Optional[_Iterable[_Union[ScoreResult, _Mapping]]] = ...) -> None: ...

class ScoreResult(_message.Message):
    __slots__ = ("score", "error")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    score: TargetScore
    error: Error
    def __init__(self, score: _Optional[_Union[TargetScore, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class TargetScore(_message.Message):
    __slots__ = ("score", "token_ids", "log_probabilities", "source_length", "unknown_tokens")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    score: float
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    log_probabilities: _containers.RepeatedScalarFieldContainer[float]
    source_length: int
    unknown_tokens: int
    def __init__(self, score: _Optional[float] = ..., token_ids: _Optional[_Iterable[int]] = ..., log_probabilities: _Optional[_Iterable[float]] = ..., source_length: _Optional[int] = ..., unknown_tokens: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: ModelSelector
    def __init__(self, model: _Optional[_Union[ModelSelector, _Mapping]] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("reference", "ready", "is_default", "card", "limits", "profiles", "profile", "device", "architecture", "source_tokens", "target_tokens", "cascade", "calibration", "lexicon_entries")
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TARGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CASCADE_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    LEXICON_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    reference: ModelReference
    ready: bool
    is_default: bool
    card: ModelCard
    limits: Limits
    profiles: _containers.RepeatedScalarFieldContainer[str]
    profile: str
    device: str
    architecture: Architecture
    source_tokens: _containers.RepeatedScalarFieldContainer[str]
    target_tokens: _containers.RepeatedScalarFieldContainer[str]
    cascade: Cascade
    calibration: Calibration
    lexicon_entries: int
    def __init__(self, reference: _Optional[_Union[ModelReference, _Mapping]] = ..., ready: _Optional[bool] = ..., is_default: _Optional[bool] = ..., card: _Optional[_Union[ModelCard, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., profiles: _Optional[_Iterable[str]] = ..., profile: _Optional[str] = ..., device: _Optional[str] = ..., architecture: _Optional[_Union[Architecture, _Mapping]] = ..., source_tokens: _Optional[_Iterable[str]] = ..., target_tokens: _Optional[_Iterable[str]] = ..., cascade: _Optional[_Union[Cascade, _Mapping]] = ..., calibration: _Optional[_Union[Calibration, _Mapping]] = ..., lexicon_entries: _Optional[int] = ...) -> None: ...

class Calibration(_message.Message):
    __slots__ = ("temperature", "bias", "smoothing", "ceiling", "profile", "dataset", "sources", "measured_on", "measured_sources", "expected_error", "precisions")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    MEASURED_ON_FIELD_NUMBER: _ClassVar[int]
    MEASURED_SOURCES_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_ERROR_FIELD_NUMBER: _ClassVar[int]
    PRECISIONS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    bias: float
    smoothing: float
    ceiling: float
    profile: str
    dataset: str
    sources: int
    measured_on: str
    measured_sources: int
    expected_error: float
    precisions: _containers.RepeatedCompositeFieldContainer[Precision]
    def __init__(self, temperature: _Optional[float] = ..., bias: _Optional[float] = ..., smoothing: _Optional[float] = ..., ceiling: _Optional[float] = ..., profile: _Optional[str] = ..., dataset: _Optional[str] = ..., sources: _Optional[int] = ..., measured_on: _Optional[str] = ..., measured_sources: _Optional[int] = ..., expected_error: _Optional[float] = ..., precisions: _Optional[_Iterable[_Union[Precision, _Mapping]]] = ...) -> None: ...

class Precision(_message.Message):
    __slots__ = ("confidence", "coverage", "precision")
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    confidence: float
    coverage: float
    precision: float
    def __init__(self, confidence: _Optional[float] = ..., coverage: _Optional[float] = ..., precision: _Optional[float] = ...) -> None: ...

class Cascade(_message.Message):
    __slots__ = ("beam_size", "margin", "profile", "dataset", "sources", "beam_share", "greedy_wer", "cascade_wer", "beam_wer")
    BEAM_SIZE_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    BEAM_SHARE_FIELD_NUMBER: _ClassVar[int]
    GREEDY_WER_FIELD_NUMBER: _ClassVar[int]
    CASCADE_WER_FIELD_NUMBER: _ClassVar[int]
    BEAM_WER_FIELD_NUMBER: _ClassVar[int]
    beam_size: int
    margin: float
    profile: str
    dataset: str
    sources: int
    beam_share: float
    greedy_wer: float
    cascade_wer: float
    beam_wer: float
    def __init__(self, beam_size: _Optional[int] = ..., margin: _Optional[float] = ..., profile: _Optional[str] = ..., dataset: _Optional[str] = ..., sources: _Optional[int] = ..., beam_share: _Optional[float] = ..., greedy_wer: _Optional[float] = ..., cascade_wer: _Optional[float] = ..., beam_wer: _Optional[float] = ...) -> None: ...

class ModelCard(_message.Message):
    __slots__ = ("title", "description", "licence", "data", "scores", "training_commit", "speed")
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    TRAINING_COMMIT_FIELD_NUMBER: _ClassVar[int]
    SPEED_FIELD_NUMBER: _ClassVar[int]
    title: str
    description: str
    licence: str
    data: _containers.RepeatedCompositeFieldContainer[DataSource]
    scores: _containers.RepeatedCompositeFieldContainer[Score]
    training_commit: str
    speed: Speed
    def __init__(self, title: _Optional[str] = ..., description: _Optional[str] = ..., licence: _Optional[str] = ..., data: _Optional[_Iterable[_Union[DataSource, _Mapping]]] = ..., scores: _Optional[_Iterable[_Union[Score, _Mapping]]] = ..., training_commit: _Optional[str] = ..., speed: _Optional[_Union[Speed, _Mapping]] = ...) -> None: ...

class DataSource(_message.Message):
    __slots__ = ("name", "licence", "split", "examples", "sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    licence: str
    split: str
    examples: int
    sha256: str
    def __init__(self, name: _Optional[str] = ..., licence: _Optional[str] = ..., split: _Optional[str] = ..., examples: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("dataset", "metric", "value", "sources", "decoding", "interval_95")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    DECODING_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_95_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    metric: str
    value: float
    sources: int
    decoding: str
    interval_95: Interval
    def __init__(self, dataset: _Optional[str] = ..., metric: _Optional[str] = ..., value: _Optional[float] = ..., sources: _Optional[int] = ..., decoding: _Optional[str] = ..., interval_95: _Optional[_Union[Interval, _Mapping]] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class Speed(_message.Message):
    __slots__ = ("machine", "runtime", "threads", "source_length", "timings")
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    machine: str
    runtime: str
    threads: int
    source_length: int
    timings: _containers.RepeatedCompositeFieldContainer[Timing]
    def __init__(self, machine: _Optional[str] = ..., runtime: _Optional[str] = ..., threads: _Optional[int] = ..., source_length: _Optional[int] = ..., timings: _Optional[_Iterable[_Union[Timing, _Mapping]]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("profile", "rows", "source_microseconds", "step_microseconds")
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_MICROSECONDS_FIELD_NUMBER: _ClassVar[int]
    STEP_MICROSECONDS_FIELD_NUMBER: _ClassVar[int]
    profile: str
    rows: int
    source_microseconds: float
    step_microseconds: float
    def __init__(self, profile: _Optional[str] = ..., rows: _Optional[int] = ..., source_microseconds: _Optional[float] = ..., step_microseconds: _Optional[float] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_source_length", "max_target_length", "max_inputs", "max_beam_size")
    MAX_SOURCE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_TARGET_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_INPUTS_FIELD_NUMBER: _ClassVar[int]
    MAX_BEAM_SIZE_FIELD_NUMBER: _ClassVar[int]
    max_source_length: int
    max_target_length: int
    max_inputs: int
    max_beam_size: int
    def __init__(self, max_source_length: _Optional[int] = ..., max_target_length: _Optional[int] = ..., max_inputs: _Optional[int] = ..., max_beam_size: _Optional[int] = ...) -> None: ...

class Architecture(_message.Message):
    __slots__ = ("cell", "encoder_layers", "decoder_layers", "embedding_size", "hidden_size", "bidirectional", "attention", "parameters", "encoder_hidden_size", "input_feeding", "context")
    CELL_FIELD_NUMBER: _ClassVar[int]
    ENCODER_LAYERS_FIELD_NUMBER: _ClassVar[int]
    DECODER_LAYERS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_SIZE_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    BIDIRECTIONAL_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    ENCODER_HIDDEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    INPUT_FEEDING_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    cell: str
    encoder_layers: int
    decoder_layers: int
    embedding_size: int
    hidden_size: int
    bidirectional: bool
    attention: str
    parameters: int
    encoder_hidden_size: int
    input_feeding: bool
    context: str
    def __init__(self, cell: _Optional[str] = ..., encoder_layers: _Optional[int] = ..., decoder_layers: _Optional[int] = ..., embedding_size: _Optional[int] = ..., hidden_size: _Optional[int] = ..., bidirectional: _Optional[bool] = ..., attention: _Optional[str] = ..., parameters: _Optional[int] = ..., encoder_hidden_size: _Optional[int] = ..., input_feeding: _Optional[bool] = ..., context: _Optional[str] = ...) -> None: ...
