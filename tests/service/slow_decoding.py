"""Decoding as its rules read, with neither speed nor cleverness: what the searches must agree with.

A model here is a function from a tuple of tokens to the log-probabilities [V] of the next.
"""

import math
from collections.abc import Callable

import numpy as np

from service.options import Options, unpack

END = 0
Model = Callable[[tuple[int, ...]], np.ndarray]
Answer = tuple[list[int], list[float], str]  # tokens, scores, reason


def random_model(size: int, seed: int, with_ties: bool = False) -> Model:
    """A distribution after every prefix, always the same. With ties, scores are rounded to halves."""

    def log_probs(prefix: tuple[int, ...]) -> np.ndarray:
        logits = 2 * np.random.default_rng([seed, *prefix]).normal(size=size)
        exact = logits - np.log(np.exp(logits).sum())
        return (np.round(2 * exact) / 2 if with_ties else exact).astype(np.float32)

    return log_probs


def may_follow(options: Options, tokens: tuple[int, ...], token: int) -> bool:
    """Whether the rules allow a token."""
    grown = (*tokens, token)
    if len(tokens) < len(options.prefix):
        return token == options.prefix[len(tokens)]
    if token == END and len(tokens) < options.min_length:
        return False
    if options.allowed and token != END and token not in options.allowed:
        return False
    if token in options.banned:
        return False
    entries = unpack(options.lexicon)
    if entries and not any((*entry, END)[: len(grown)] == grown for entry in entries):
        return False
    n = options.no_repeat_ngram
    seen = [grown[i : i + n] for i in range(len(grown) - n)]
    return not (n and len(grown) >= n and grown[-n:] in seen)


def why_ended(options: Options, tokens: tuple[int, ...], token: int) -> str:
    """The reason that ends after a token; empty where none does."""
    if token == END:
        return "eos"
    if len(tokens) == options.max_length:
        return "length"
    own_words = len(tokens) > len(options.prefix) and not options.lexicon
    times = options.loop_repeats if own_words else 0
    for cycle in range(1, 9) if times else ():
        if len(tokens) >= cycle * times and tokens[-cycle * times :] == tokens[-cycle:] * times:
            return "loop"
    return ""


def values(options: Options, tokens: tuple[int, ...], log_probs: np.ndarray) -> dict[int, float]:
    """What each token that may come is ranked by."""
    biases = dict(options.biases) if len(tokens) >= len(options.prefix) else {}
    return {
        token: float(score) + biases.get(token, 0.0)
        for token, score in enumerate(log_probs)
        if may_follow(options, tokens, token)
    }


def single(options: Options, model: Model, draw: Callable[[dict[int, float], int], int]) -> Answer:
    """One hypothesis; `draw` chooses from what may come, given the position."""
    tokens: tuple[int, ...] = ()
    scores: list[float] = []
    while True:
        log_probs = model(tokens)
        open_ = values(options, tokens, log_probs)
        if not open_:
            return list(tokens), scores, "constraint"
        token = draw(open_, len(tokens))
        scores.append(float(log_probs[token]))
        tokens += (token,) if token != END else ()
        if reason := why_ended(options, tokens, token):
            return list(tokens), scores, reason


def best_of(open_: dict[int, float], _: int) -> int:
    """The best token, the lowest id at a tie."""
    return min(open_, key=lambda token: (-open_[token], token))


def smallest_margin(options: Options, model: Model) -> float:
    """The least distance between the two best tokens on the way of greedy decoding."""
    margins = [math.inf]

    def draw(open_: dict[int, float], position: int) -> int:
        best = sorted(open_.values())[-2:]
        margins.append(best[1] - best[0] if len(best) == 2 else math.inf)
        return best_of(open_, position)

    single(options, model, draw)
    return min(margins)


def beam(options: Options, model: Model) -> list[Answer]:
    """Beam search by its definition, every candidate of every live hypothesis looked at."""
    live: list[tuple[float, tuple[int, ...], list[float]]] = [(0.0, (), [])]
    finished: list[tuple[float, Answer]] = []

    def finish(total: float, tokens: tuple[int, ...], scores: list[float], reason: str) -> None:
        normalised = total / len(scores) ** options.length_penalty if scores else 0.0
        finished.append((normalised, (list(tokens), scores, reason)))

    def best() -> list[tuple[float, Answer]]:
        return sorted(finished, key=lambda ended: -ended[0])[: options.n_best]

    while live and len(finished) < options.beam_size:
        candidates = []
        for parent, (total, tokens, _) in enumerate(live):
            log_probs = model(tokens)
            for token, value in values(options, tokens, log_probs).items():
                candidates.append((-(total + value), parent, token, float(log_probs[token])))
        if not candidates and not finished:
            for hypothesis in live:
                finish(*hypothesis, "constraint")
        grown = []
        for negated, parent, token, score in sorted(candidates)[: options.beam_size - len(finished)]:
            _, tokens, scores = live[parent]
            tokens += (token,) if token != END else ()
            reason = why_ended(options, tokens, token)
            if reason in ("", "length"):
                grown.append((-negated, tokens, [*scores, score]))
            else:
                finish(-negated, tokens, [*scores, score], reason)
        live = grown
        if live and len(live[0][1]) == options.max_length:
            for hypothesis in live:
                finish(*hypothesis, "length")
            live = []
        bound = max((total / options.max_length**options.length_penalty for total, *_ in live), default=0.0)
        lifted = any(bias > 0 for _, bias in options.biases)
        if len(finished) >= options.n_best and not lifted and bound <= best()[-1][0]:
            break
    return [answer for _, answer in best()]


def every_answer(size: int, max_length: int, model: Model) -> list[tuple[float, int, Answer]]:
    """All answers there are, with their total score and length, <E> counted."""
    found: list[tuple[float, int, Answer]] = []
    paths: list[tuple[tuple[int, ...], list[float]]] = [((), [])]
    while paths:
        tokens, scores = paths.pop()
        log_probs = model(tokens)
        for token in range(size):
            longer = [*scores, float(log_probs[token])]
            if token == END:
                found.append((sum(longer), len(longer), (list(tokens), longer, "eos")))
            elif len(tokens) + 1 == max_length:
                found.append((sum(longer), len(longer), ([*tokens, token], longer, "length")))
            else:
                paths.append(((*tokens, token), longer))
    return found
