"""Nets that spell forwards and nets that spell backwards, and the answers on which both sides agree.

Target-bidirectional agreement: Liu, Finch, Utiyama and Sumita (2016). A net is surest of where it begins and
goes wrong towards its end; the other side goes wrong elsewhere. Each side finds hypotheses of its own and
reads the other's; an answer's score is the mean of both sides' log-probabilities.
Letters: B answers, S source length, T target length with `<E>`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from training.beam import END, BeamOptions, Hypothesis
from training.evaluate import BATCH, search, spelled
from training.examples import padded
from training.model import Seq2Seq

Ids = tuple[int, ...]


def agree(
    forwards: Sequence[Seq2Seq],
    backwards: Sequence[Seq2Seq],
    sources: Sequence[Sequence[int]],
    options: BeamOptions,
) -> list[list[Hypothesis]]:
    """The n_best answers to each source, best first, of all that either side's beam finds.

    `score` is the mean of both sides' sums of natural-log probabilities; single tokens have none. Where
    neither side finds a whole answer, the one that spells forwards says what it has.
    """
    widest = replace(options, n_best=options.width)
    found = search(forwards, sources, widest)
    mirrored = search(backwards, sources, widest)
    asked = [(place, ids) for place, one in enumerate(found) for ids in _whole(one, mirrored[place])]
    read = [sources[place] for place, _ in asked]
    scores = read_along(forwards, read, [ids for _, ids in asked])
    scores += read_along(backwards, read, [_turned(ids) for _, ids in asked])
    agreed: list[list[Hypothesis]] = [[] for _ in sources]
    for (place, ids), score in zip(asked, (scores / 2).tolist(), strict=True):
        agreed[place].append(Hypothesis(ids, (), score))
    return [
        sorted(answers, key=lambda answer: -answer.normalised(options.length_penalty))[: options.n_best]
        or one[: options.n_best]
        for answers, one in zip(agreed, found, strict=True)
    ]


def _whole(found: Sequence[Hypothesis], mirrored: Sequence[Hypothesis]) -> list[Ids]:
    """The whole answers among what either side finds, as they are read, each once."""
    answers = [best.ids for best in found] + [_turned(best.ids) for best in mirrored]
    return [ids for ids in dict.fromkeys(answers) if ids and ids[-1] == END]


def _turned(ids: Ids) -> Ids:
    return tuple(spelled(ids, backwards=True))


@torch.inference_mode()
def read_along(
    models: Sequence[Seq2Seq], sources: Sequence[Sequence[int]], answers: Sequence[Ids]
) -> np.ndarray:
    """What models together find answers worth that they are told: sums of natural-log probabilities [B]."""
    worth = np.zeros(len(answers))
    order = sorted(range(len(answers)), key=lambda place: (len(sources[place]), len(answers[place])))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        source, lengths = map(torch.from_numpy, padded([sources[place] for place in chosen]))
        target, ends = map(torch.from_numpy, padded([answers[place] for place in chosen]))
        read = nn.functional.pad(target[:, :-1], (1, 0), value=models[0].start_id)
        shares = [model(source, lengths, read).float().softmax(dim=2) for model in models]  # [B, T, V] each
        chances = torch.stack(shares).mean(dim=0).gather(2, target.unsqueeze(2)).squeeze(2)  # [B, T]
        is_told = torch.arange(target.shape[1]) < ends.unsqueeze(1)
        worth[chosen] = chances.log().double().where(is_told, 0.0).sum(dim=1).numpy()
    return worth
