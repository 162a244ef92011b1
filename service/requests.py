"""What a request asks for, from messages of chairlift.v1 to the service's own types.

Every count and length has a limit that is checked before any work that grows with it, and a complaint names
the field. What an input must be is said in inputs.py.
"""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from bundle.text import END, TargetText
from chairlift.v1 import seq2seq_pb2 as pb
from service.errors import InvalidRequest, Violation
from service.inputs import TURN_CHARACTERS, target_ids, token_id
from service.models import Model
from service.options import Options, Sampling, pack

MAX_TOKENS = 256  # in one list of them
MAX_LEXICON = 1024  # entries
MAX_LEXICON_TOKENS = 8192  # in all entries
MAX_PRIORITY = 10
MAX_BIAS = 100.0
MAX_MARGIN = 100.0
MAX_LENGTH_PENALTY = 5.0
MAX_ALTERNATIVES = 8
TEMPERATURES = (0.01, 100.0)
MAX_NUMBERS = 4_000_000  # in one answer

Number = TypeVar("Number", int, float)


def options(message: pb.DecodingOptions, model: Model) -> Options:
    """How to decode. Raises InvalidRequest naming the field that is wrong."""
    longest = model.manifest.limits.max_target_length
    if not message.ByteSize():
        return Options(longest)
    max_length = _within("options.max_length", message.max_length, 0, longest) or longest
    beam_size, cascade_margin = _cascade(message, model) if message.cascade else _beam(message, model)
    target, size = model.bundle.target, model.manifest.vocabulary.target_size - 1
    prefix = target_ids(target, message.prefix, max_length, "options.prefix") if message.prefix else ()
    return Options(
        max_length,
        min_length=_within("options.min_length", message.min_length, 0, max_length),
        beam_size=beam_size,
        n_best=_within("options.n_best", message.n_best, 0, beam_size) or 1,
        length_penalty=_within("options.length_penalty", message.length_penalty, 0.0, MAX_LENGTH_PENALTY),
        cascade_margin=cascade_margin,
        sampling=_sampling(message.sampling, beam_size, size) if message.HasField("sampling") else None,
        prefix=prefix,
        allowed=_tokens("options.allowed_tokens", message.allowed_tokens, target),
        banned=_banned(message.banned_tokens, target),
        biases=_biases(message.biases, target),
        lexicon=_lexicon(message.lexicon, target, max_length, prefix),
        no_repeat_ngram=_within("options.no_repeat_ngram", message.no_repeat_ngram, 0, longest),
        loop_repeats=_loop_repeats(message.loop_repeats, longest),
        alternatives=_within("options.alternatives", message.alternatives, 0, MAX_ALTERNATIVES),
        partial_on_deadline=message.partial_on_deadline,
        alignments=message.alignments and _has_attention(model),
    )


def refuse_floods(asked: Options, log_probabilities: bool, inputs: int, model: Model) -> None:
    """Raises InvalidRequest where an answer might hold far too many numbers, naming what most of them are."""
    weights = model.manifest.limits.max_source_length if asked.alignments else 0
    at_each_position = 1 + log_probabilities + 2 * asked.alternatives + weights  # the token is one
    numbers = inputs * asked.n_best * (asked.max_length + 1) * at_each_position
    if numbers > MAX_NUMBERS:
        parts = {
            "n_best": 1,
            "log_probabilities": int(log_probabilities),
            "alternatives": 2 * asked.alternatives,
            "alignments": weights,
        }
        reason = (
            f"up to {numbers} numbers for {inputs} inputs, n_best {asked.n_best} and max_length "
            f"{asked.max_length}; {MAX_NUMBERS} in one answer are allowed"
        )
        raise InvalidRequest(Violation(f"options.{max(parts, key=parts.__getitem__)}", reason))


def priority(value: int) -> int:
    """A request's priority. Raises InvalidRequest."""
    return _within("priority", value, -MAX_PRIORITY, MAX_PRIORITY)


async def targets(request: pb.ScoreRequest, model: Model) -> list[tuple[int, ...] | InvalidRequest]:
    """The ids of each target, or what is wrong with it. Raises InvalidRequest where none could be scored."""
    if len(request.targets) != len(request.inputs):
        reason = f"{len(request.targets)} targets; as many as inputs ({len(request.inputs)}) are allowed"
        raise InvalidRequest(Violation("targets", reason))
    most = model.manifest.limits.max_target_length
    turn = 0  # characters so far
    found: list[tuple[int, ...] | InvalidRequest] = []
    for index, text in enumerate(request.targets[: model.max_inputs]):
        try:
            found.append(target_ids(model.bundle.target, text, most, f"targets[{index}]"))
        except InvalidRequest as error:
            if len(request.targets) == 1:
                raise
            found.append(error)
        turn += len(text)
        if turn > TURN_CHARACTERS:
            turn = 0
            await asyncio.sleep(0)
    return found


def _within(field: str, value: Number, least: Number, most: Number) -> Number:
    if not least <= value <= most:  # nor is what is not a number
        raise InvalidRequest(Violation(field, f"{value}; {least} to {most} are allowed"))
    return value


def _few(field: str, values: Sequence[object], most: int) -> None:
    if len(values) > most:
        raise InvalidRequest(Violation(field, f"{len(values)} of them; at most {most} are allowed"))


def _beam(message: pb.DecodingOptions, model: Model) -> tuple[int, float]:
    """A beam's size, and the margin of a cascade: as the caller says."""
    beam_size = _within("options.beam_size", message.beam_size, 0, model.max_beam_size) or 1
    field = "options.cascade_margin"
    margin = _within(field, message.cascade_margin, 0.0, MAX_MARGIN)
    if margin and beam_size == 1:
        raise InvalidRequest(Violation(field, "a cascade without a beam; beam_size 2 or more is needed"))
    return beam_size, margin


def _cascade(message: pb.DecodingOptions, model: Model) -> tuple[int, float]:
    """The same, as they were fitted for the model."""
    fitted, reason = model.manifest.cascade, ""
    if fitted is None:
        reason = "none was fitted for this model; beam_size and cascade_margin make one"
    elif message.beam_size or message.cascade_margin or message.HasField("sampling"):
        reason = "beside beam_size, cascade_margin or sampling; it is allowed without them"
    elif fitted.beam_size > model.max_beam_size:
        reason = f"a beam of {fitted.beam_size}; this server allows at most {model.max_beam_size}"
    if fitted is None or reason:
        raise InvalidRequest(Violation("options.cascade", reason))
    return fitted.beam_size, fitted.margin


def _sampling(message: pb.Sampling, beam_size: int, size: int) -> Sampling:
    if beam_size > 1:
        raise InvalidRequest(Violation("options.sampling", "draws in a beam; beam_size 1 is needed"))
    return Sampling(
        message.seed,
        _within("options.sampling.temperature", message.temperature or 1.0, *TEMPERATURES),
        _within("options.sampling.top_k", message.top_k, 0, size),
        _within("options.sampling.top_p", message.top_p, 0.0, 1.0) or 1.0,
    )


def _has_attention(model: Model) -> bool:
    """True. Raises InvalidRequest for a model that has nothing to align."""
    if model.manifest.architecture.attention == "none":
        reason = "this model has no attention; allowed are models whose architecture.attention is not none"
        raise InvalidRequest(Violation("options.alignments", reason))
    return True


def _loop_repeats(repeats: int, longest: int) -> int:
    field = "options.loop_repeats"
    if repeats == 1:
        raise InvalidRequest(Violation(field, f"1; 0, or 2 to {longest} are allowed"))
    return _within(field, repeats, 0, longest)


def _tokens(field: str, tokens: Sequence[str], target: TargetText) -> tuple[int, ...]:
    """Ids of tokens, sorted, each once."""
    _few(field, tokens, MAX_TOKENS)
    return tuple(sorted({token_id(target, token, f"{field}[{i}]") for i, token in enumerate(tokens)}))


def _banned(tokens: Sequence[str], target: TargetText) -> tuple[int, ...]:
    field = "options.banned_tokens"
    if END in tokens:
        raise InvalidRequest(Violation(field, f"{END} among them; min_length says how long it may not come"))
    return _tokens(field, tokens, target)


def _biases(biases: Sequence[pb.TokenBias], target: TargetText) -> tuple[tuple[int, float], ...]:
    """Ids and what is added for each, by id."""
    field = "options.biases"
    _few(field, biases, MAX_TOKENS)
    found = {}
    for index, item in enumerate(biases):
        token = token_id(target, item.token, f"{field}[{index}].token")
        if token in found:
            raise InvalidRequest(Violation(f"{field}[{index}].token", "given twice; once is allowed"))
        found[token] = _within(f"{field}[{index}].bias", item.bias, -MAX_BIAS, MAX_BIAS)
    return tuple(sorted(found.items()))


def _lexicon(entries: Sequence[str], target: TargetText, max_length: int, prefix: tuple[int, ...]) -> bytes:
    """Ids of the entries, packed."""
    field = "options.lexicon"
    _few(field, entries, MAX_LEXICON)
    found = {target_ids(target, entry, max_length, f"{field}[{i}]") for i, entry in enumerate(entries)}
    if found and not any(entry[: len(prefix)] == prefix for entry in found):
        raise InvalidRequest(Violation(field, "no entry begins with the prefix; one must"))
    tokens = sum(map(len, found))
    if tokens > MAX_LEXICON_TOKENS:
        raise InvalidRequest(
            Violation(field, f"{tokens} tokens in all; at most {MAX_LEXICON_TOKENS} are allowed")
        )
    return pack(found)
