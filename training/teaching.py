"""What teachers expect of every training example, token by token, for a student to learn beside the labels.

Knowledge distillation: Hinton, Vinyals and Dean (2015); token by token, Kim and Rush (2016). The teachers'
mean probabilities are taken once, before training, with the true target read as in teacher forcing, and kept
in a file for when the run goes on.
Letters: B examples, T target length with `<E>`, P tokens of all targets, V tokens that can be emitted.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.torch import save

from training.atomic import write_atomically
from training.batches import IGNORED, Lessons, pick
from training.examples import Examples
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
    stopping: Callable[[], bool] = lambda: False,
) -> Lessons | None:
    """Asks all teachers together; they stay on `device`, in evaluation mode. `tracked` may count batches.

    None where `stopping`, which is asked before each batch, says so.
    """
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
        if stopping():
            return None
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


def lessons_key(taught_by: Sequence[str], examples: Examples, precision: str) -> str:
    """What lessons follow from: the teachers by their digests, what they are asked, in which precision."""
    sha = hashlib.sha256(f"{KEPT} {precision} {' '.join(taught_by)}".encode())
    for array in (examples.source, examples.source_lengths, examples.target, examples.target_lengths):
        sha.update(f"{array.shape}".encode() + array.tobytes())
    return sha.hexdigest()


def save_lessons(path: Path, lessons: Lessons, key: str) -> None:
    """Writes atomically, as checkpoints are."""
    tensors = {"first": torch.from_numpy(lessons.first), "tokens": lessons.tokens, "shares": lessons.shares}
    write_atomically(path, save(tensors, {"key": key}))


def load_lessons(path: Path, key: str) -> Lessons | None:
    """Those of that key; None where there are none, or where the file is damaged."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            first, tokens, shares = (file.get_tensor(name) for name in ("first", "tokens", "shares"))
    except (OSError, safetensors.SafetensorError):
        return None
    return Lessons(first.numpy(), tokens, shares)
