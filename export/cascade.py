"""Fits a cascade: greedy decoding, and a beam for those answers alone that greedy decoding was in doubt of.

An answer is in doubt if, in any step, its two best tokens came closer than a margin. Knows nothing of how a
bundle is written. Letters: B sources, R rows (live hypotheses of all sources), V tokens that can be emitted,
K of them the best.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bundle.card import Cascade, Score
from export.parity import Graphs
from export.profiles import Exported
from export.scores import rates_of, read_pairs
from training.beam import Beam, BeamOptions
from training.checkpoint import Checkpoint
from training.evaluate import Verdict, judge

BATCH = 128  # sources
MARGINS = 100  # that are tried in each natural-log unit
MOST_LOSS = 0.02  # points of WER

Pairs = dict[str, tuple[str, ...]]  # all targets of each source


def fit_cascade(exported: Exported, checkpoint: Checkpoint, file: Path, width: int) -> Cascade | None:
    """The margin by which to choose between greedy decoding and a beam of a width, fitted on a file of pairs.

    None where the beam is no better than greedy decoding. Raises DataError.
    """
    name, pairs = _read(file, checkpoint)
    greedy, margins = _decode_pairs(exported, checkpoint, pairs, 1)
    beam, _ = _decode_pairs(exported, checkpoint, pairs, width)
    greedy_wrong, beam_wrong = (np.array([v.distance > 0 for v in found]) for found in (greedy, beam))
    margin = smallest_margin(margins, greedy_wrong, beam_wrong)
    if not margin:
        return None
    doubtful = margins < margin
    return Cascade(
        beam_size=width,
        margin=margin,
        profile=exported.name,
        dataset=name,
        sources=len(pairs),
        beam_share=float(doubtful.mean().round(4)),
        greedy_wer=_percent(greedy_wrong),
        cascade_wer=_percent(np.where(doubtful, beam_wrong, greedy_wrong)),
        beam_wer=_percent(beam_wrong),
    )


def smallest_margin(margins: np.ndarray, greedy_wrong: np.ndarray, beam_wrong: np.ndarray) -> float:
    """The smallest margin with which, and with every larger one, the cascade is as good as the beam.

    margins [B]: the smallest of each greedy answer. greedy_wrong, beam_wrong [B], bool. As good: at most
    MOST_LOSS points of WER worse. One larger margin that is not would show that a smaller one was luck. 0: so
    is greedy decoding itself.
    """
    order = np.argsort(margins)
    gains = greedy_wrong[order].astype(np.int64) - beam_wrong[order]
    gained = np.concatenate(([0], np.cumsum(gains)))  # right answers more, once so many go to the beam
    most = MOST_LOSS / 100 * len(margins)
    if gained[-1] <= most:
        return 0.0
    tried = np.arange(math.ceil(margins.max() * MARGINS) + 2) / MARGINS  # the last is above all
    lost = gained[-1] - gained[np.searchsorted(margins[order], tried)]
    return float(tried[np.flatnonzero(lost > most)[-1] + 1])


def score_cascade(
    exported: Exported, checkpoint: Checkpoint, file: Path, cascade: Cascade
) -> Sequence[Score]:
    """Error rates of a cascade's answers in percent. Raises DataError."""
    name, pairs = _read(file, checkpoint)
    greedy, margins = _decode_pairs(exported, checkpoint, pairs, 1)
    doubtful = {source: pairs[source] for source, m in zip(pairs, margins, strict=True) if m < cascade.margin}
    beam, _ = _decode_pairs(exported, checkpoint, doubtful, cascade.beam_size)
    better = {verdict.source: verdict for verdict in beam}
    verdicts = [better.get(verdict.source, verdict) for verdict in greedy]
    decoding = f"cascade, beam {cascade.beam_size}, margin {cascade.margin:g}, {exported.name}"
    return rates_of(verdicts, checkpoint.recipe, name, decoding)


def _read(file: Path, checkpoint: Checkpoint) -> tuple[str, Pairs]:
    split = read_pairs(file, checkpoint)
    return split.name, split.by_source()


def _percent(wrong: np.ndarray) -> float:
    return round(100 * float(wrong.mean()), 2)


def _decode_pairs(
    exported: Exported, checkpoint: Checkpoint, pairs: Pairs, width: int
) -> tuple[list[Verdict], np.ndarray]:
    """A beam's best answers, judged, and their margins as `decode` has them."""
    source, target = checkpoint.texts()
    options = BeamOptions(width, max_length=checkpoint.recipe.limits.max_target_length)
    start_id = len(target.tokens) - 1
    answers, margins = decode(exported.graphs, source.encode_many(list(pairs)), start_id, options)
    return judge(answers, pairs, target), np.array(margins)


def decode(
    graphs: Graphs, sources: Sequence[Sequence[int]], start_id: int, options: BeamOptions
) -> tuple[list[list[int]], list[float]]:
    """The best ids of each source, <E> too where it came, and how close the two best tokens of a step came.

    That is in natural-log units, over all steps of all the source's rows: a beam of one, which is greedy, has
    the margin that a cascade looks at. A source without a token has no ids, and a margin of 0.
    """
    answers: list[list[int]] = [[] for _ in sources]
    margins = [0.0] * len(sources)
    order = sorted(filter(sources.__getitem__, range(len(sources))), key=lambda index: len(sources[index]))
    for first in range(0, len(order), BATCH):
        chosen = order[first : first + BATCH]
        beams = [Beam(options) for _ in chosen]
        smallest = _advance(graphs, [sources[index] for index in chosen], start_id, beams)
        for index, beam, margin in zip(chosen, beams, smallest, strict=True):
            answers[index], margins[index] = list(beam.ranking()[0].ids), margin
    return answers, margins


def _advance(
    graphs: Graphs, sources: Sequence[Sequence[int]], start_id: int, beams: Sequence[Beam]
) -> list[float]:
    """Steps the decoder until every source's beam has ended. Returns the smallest margin of each source."""
    state = graphs.encode(sources)
    margins = np.full(len(sources), np.inf)
    owners = np.arange(len(sources))  # [R], the source of each row
    tokens = np.full(len(sources), start_id)
    while len(tokens):
        (log_probs, best), state = graphs.step(["log_probs", "top_scores"], tokens, state)  # [R, V], [R, K]
        np.minimum.at(margins, owners, best[:, 0].astype(np.float64) - best[:, 1])
        grown = [
            (first + parent, owner, token)
            for owner, first, last in _blocks(owners)
            for parent, token in beams[owner].advance(log_probs[first:last])
        ]
        parents, owners, tokens = np.array(grown, np.int64).reshape(-1, 3).T
        state = {name: array[parents] for name, array in state.items()}
    return list(margins.tolist())


def _blocks(owners: np.ndarray) -> list[tuple[int, int, int]]:
    """Each source that still has rows, with the first of them and the one after the last."""
    firsts = np.flatnonzero(np.diff(owners, prepend=-1)).tolist()
    return list(zip(owners[firsts].tolist(), firsts, [*firsts[1:], len(owners)], strict=True))
