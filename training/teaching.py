"""What teachers expect of every training example, token by token, for a student to learn beside the labels.

Knowledge distillation: Hinton, Vinyals and Dean (2015); token by token, Kim and Rush (2016). The teachers'
mean probabilities are taken once, before training, with the true target read as in teacher forcing.
Letters: B examples, T target length with `<E>`, P tokens of all targets, V tokens that can be emitted.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from training.batches import IGNORED, Lessons, pick
from training.data import Examples
from training.model import Seq2Seq

KEPT = 8  # K, tokens of each distribution, the likeliest: of a good teacher they hold nearly all of it
BATCH = 512  # examples at a time, or as many as have so many logits:
BATCH_LOGITS = 1 << 24


@torch.inference_mode()
def take_lessons(
    teachers: Sequence[Seq2Seq],
    examples: Examples,
    device: torch.device | str,
    tracked: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Lessons:
    """Asks all teachers together; they stay on `device`, in evaluation mode. `tracked` may count batches."""
    ends = np.cumsum(examples.target_lengths + 1)
    first = ends - examples.target_lengths - 1
    models = [teacher.to(device).eval() for teacher in teachers]
    emitted = models[0].start_id
    kept = min(KEPT, emitted)
    tokens = torch.empty(int(ends[-1]), kept, dtype=torch.int32)
    shares = torch.empty(len(tokens), kept, dtype=torch.float16)
    order = np.lexsort((examples.target_lengths, examples.source_lengths))
    size = max(1, min(BATCH, BATCH_LOGITS // (emitted * (examples.target.shape[1] + 1))))
    for start in tracked(range(0, len(order), size)):
        chosen = order[start : start + size]
        batch = pick(examples, chosen, emitted)
        source, read = batch.source.to(device), batch.read.to(device)
        logits = [model(source, batch.lengths, read).float() for model in models]  # [B, T, V] each
        mean = torch.stack([one.softmax(dim=2) for one in logits]).mean(dim=0)
        likely, ids = mean.cpu().topk(kept, dim=2)
        due = batch.labels != IGNORED
        places = np.concatenate([np.arange(first[index], ends[index]) for index in chosen])
        tokens[places] = ids[due].int()
        shares[places] = (likely / likely.sum(dim=2, keepdim=True))[due].half()
    return Lessons(first, tokens, shares)
