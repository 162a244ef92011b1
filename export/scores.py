"""What a profile costs in quality: the graphs' own answers to pairs, for the model card."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from bundle.manifest import Score
from export.parity import Answer
from export.profiles import Exported
from training.checkpoint import Checkpoint
from training.data import read_split
from training.evaluate import evaluate


class _Graphs:
    """The graphs of a profile in the place of a network that answers."""

    def __init__(self, exported: Exported, start_id: int) -> None:
        self._graphs = exported.graphs
        self._start_id = start_id

    def greedy(self, source: Tensor, lengths: Tensor, max_length: int) -> list[Answer]:
        """source [B, S], lengths [B] -> the answer of each."""
        sources = [row[:length] for row, length in zip(source.tolist(), lengths.tolist(), strict=True)]
        return self._graphs.greedy(sources, self._start_id, max_length)


def score_profile(exported: Exported, checkpoint: Checkpoint, file: Path) -> Sequence[Score]:
    """WER and PER of greedy answers in percent. Raises DataError."""
    split = read_split(file, file.stem.partition(".")[0])
    texts = checkpoint.texts()
    start_id = len(texts[1].tokens) - 1
    found = evaluate(
        _Graphs(exported, start_id),  # type: ignore[arg-type]  # all that evaluation asks of a network
        split.by_source(),
        texts,
        checkpoint.recipe.limits.max_target_length,
        torch.device("cpu"),
    )
    return [
        Score(
            dataset=split.name,
            metric=metric,
            value=round(value, 2),
            sources=found.sources,
            decoding=f"greedy, {exported.name}",
        )
        for metric, value in (("WER", found.wer), ("PER", found.per))
    ]
