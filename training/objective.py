"""What an update makes smaller, and what the model reads meanwhile.

Knows nothing of files, optimisers or epochs. Letters: B batch, S source length, T target length, V tokens
that can be emitted. Scheduled sampling: Bengio et al. (2015), in two passes over all steps at once as by
Mihaylova and Martins (2019). Word dropout: Gal and Ghahramani (2016), but unknown where they have zeros.
Teachers: training/teaching.py.
"""

from collections.abc import Callable, Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from bundle.values import END_ID, UNKNOWN_ID
from training.batches import IGNORED, Batch, Lesson
from training.recipe import Training

Score = Callable[[Tensor, Tensor, Tensor], Tensor]  # source, lengths, read -> logits [B, T, V]


def add_gradients(
    fabric: Fabric,
    model: Score,
    batches: Sequence[Batch],
    options: Training,
    sampled: float,
    tokens: float | None = None,
) -> float:
    """Adds up the gradients of the mean loss of one update over `tokens`: those of its batches, unless given.

    Returns that loss in nats a token: the smoothed cross-entropy against the labels and, where a batch has
    a lesson, that against its teachers in place of a share of it; or where a batch says which source each
    example is of, what `marginal` gives. `sampled` is the share of the tokens read
    that are the model's own. Where others have further batches of the update, `tokens` counts theirs too, and
    the sum of all losses and gradients is the mean's.
    """
    if tokens is None:
        tokens = sum(batch.tokens for batch in batches)
    total = 0.0
    for batch in batches:
        source, read, labels = map(fabric.to_device, (batch.source, batch.read, batch.labels))
        if sampled:
            read = mix_own(model, source, batch.lengths, read, sampled)
        source, read = (
            drop_words(source, options.word_dropout),
            drop_words(read, options.word_dropout, spared=1),
        )
        logits = model(source, batch.lengths, read)  # [B, T, V]
        if batch.owners is not None:
            loss = marginal(logits, labels, fabric.to_device(batch.owners))
        else:
            loss = nn.functional.cross_entropy(
                logits.float().flatten(0, 1),
                labels.flatten(),
                ignore_index=IGNORED,
                label_smoothing=options.label_smoothing,
                reduction="sum",
            )
        if batch.lesson is not None:
            weight, lesson = options.teacher_weight, Lesson(*map(fabric.to_device, batch.lesson))
            loss = (1 - weight) * loss + weight * disagreement(logits, lesson)
        fabric.backward(loss / tokens)
        total += loss.item()
    return total / tokens


def marginal(logits: Tensor, labels: Tensor, owners: Tensor) -> Tensor:
    """logits [B, T, V] -> the sum over all sources of -log of the probability that any of its references has.

    owners [B]: the source of each reference, from 0.
    """
    losses = nn.functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    said = -losses.view_as(labels).sum(dim=1)  # [B], of whole references
    other = owners != torch.arange(int(owners.max()) + 1, device=owners.device).unsqueeze(1)  # [sources, B]
    return -said.masked_fill(other, -torch.inf).logsumexp(dim=1).sum()


def disagreement(logits: Tensor, lesson: Lesson) -> Tensor:
    """logits [B, T, V] -> the sum over all tokens of their cross-entropy against the teachers' shares."""
    said = logits.float().log_softmax(dim=2).gather(2, lesson.tokens)
    return -(lesson.shares * said).sum()


def drop_words(tokens: Tensor, share: float, spared: int = 0) -> Tensor:
    """tokens [B, N] with that share of them unknown; the first `spared` columns stay."""
    if not share:
        return tokens
    dropped = torch.rand(tokens.shape, device=tokens.device) < share
    dropped[:, :spared] = False
    return tokens.masked_fill(dropped, UNKNOWN_ID)


@torch.no_grad()
def mix_own(model: Score, source: Tensor, lengths: Tensor, read: Tensor, share: float) -> Tensor:
    """read [B, T] with that share of it replaced by what the model would have said there (but <E>)."""
    said = model(source, lengths, read).argmax(dim=2)  # [B, T], what follows each token read
    own = torch.cat((read[:, :1], said[:, :-1]), dim=1)  # <S> stays
    chosen = (torch.rand(read.shape, device=read.device) < share) & (own != END_ID)
    return torch.where(chosen, own, read)
