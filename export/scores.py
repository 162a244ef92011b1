"""What a profile costs in quality: the graphs' own answers to pairs, for the model card."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from bundle.card import Score
from export.parity import Answer
from export.profiles import Exported
from training.checkpoint import Checkpoint
from training.data import Split, read_split
from training.evaluate import answer, judge, score
from training.recipe import Recipe


def read_pairs(file: Path) -> Split:
    """A file's pairs; the split goes by what is before the first dot. Raises DataError."""
    return read_split(file, file.name.partition(".")[0])


class _Graphs:
    """The graphs of a profile in the place of a network that answers."""

    def __init__(self, exported: Exported, start_id: int) -> None:
        self._graphs = exported.graphs
        self._start_id = start_id

    def greedy(self, source: Tensor, lengths: Tensor, max_length: int) -> list[Answer]:
        """source [B, S], lengths [B] -> the answer of each."""
        sources = [row[:length] for row, length in zip(source.tolist(), lengths.tolist(), strict=True)]
        return self._graphs.greedy(sources, self._start_id, max_length)


def greedy_answers(exported: Exported, checkpoint: Checkpoint, sources: Sequence[str]) -> list[Answer]:
    """A profile's own answer to each source."""
    source, target = checkpoint.texts()
    graphs = _Graphs(exported, len(target.tokens) - 1)
    return answer(
        graphs,  # type: ignore[arg-type]  # all that evaluation asks of a network
        source.encode_many(list(sources)),
        checkpoint.recipe.limits.max_target_length,
    )


def score_profile(exported: Exported, checkpoint: Checkpoint, file: Path) -> Sequence[Score]:
    """Error rates of greedy answers in percent. Raises DataError."""
    split = read_pairs(file)
    pairs = split.by_source()
    answers = greedy_answers(exported, checkpoint, list(pairs))
    found = score(judge([ids for ids, _ in answers], pairs, checkpoint.texts()[1]))
    decoding = f"greedy, {exported.name}"
    return error_rates(checkpoint.recipe, split.name, found.wer, found.per, found.sources, decoding)


def error_rates(
    recipe: Recipe, dataset: str, wer: float, per: float, sources: int, decoding: str
) -> tuple[Score, Score]:
    """WER, and the error rate of single tokens: CER where those are characters, else PER."""
    token = "CER" if recipe.target.level == "char" else "PER"
    rates = [
        Score(dataset=dataset, metric=metric, value=round(value, 2), sources=sources, decoding=decoding)
        for metric, value in (("WER", wer), (token, per))
    ]
    return rates[0], rates[1]
