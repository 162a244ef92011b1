"""What a profile costs in quality: the graphs' own answers to pairs, for the model card."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from bundle.card import Score
from export.parity import Answer
from export.profiles import Exported
from training.checkpoint import Checkpoint
from training.data import Split, normalisers, read_split
from training.evaluate import Scores, Verdict, answer, judge, score
from training.recipe import Recipe
from training.significance import Interval, intervals


def read_pairs(file: Path, checkpoint: Checkpoint) -> Split:
    """A file's pairs; the split goes by what is before the first dot. Raises DataError."""
    return read_split(file, file.name.partition(".")[0], normalisers(checkpoint.recipe))


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
    split = read_pairs(file, checkpoint)
    pairs = split.by_source()
    answers = greedy_answers(exported, checkpoint, list(pairs))
    verdicts = judge([ids for ids, _ in answers], pairs, checkpoint.texts()[1])
    return rates_of(verdicts, checkpoint.recipe, split.name, f"greedy, {exported.name}")


def rates_of(verdicts: Sequence[Verdict], recipe: Recipe, dataset: str, decoding: str) -> tuple[Score, Score]:
    """Error rates of answers that were judged, with their intervals."""
    return error_rates(score(verdicts), intervals(verdicts), recipe, dataset, decoding)


def error_rates(
    found: Scores, within: tuple[Interval, Interval], recipe: Recipe, dataset: str, decoding: str
) -> tuple[Score, Score]:
    """WER, and the error rate of single tokens: CER where those are characters, else PER."""

    def rate(metric: str, value: float, interval: Interval) -> Score:
        low, high = interval
        return Score(
            dataset=dataset,
            metric=metric,
            value=round(value, 2),
            sources=found.sources,
            decoding=decoding,
            interval_95=(round(low, 2), round(high, 2)),
        )

    token = "CER" if recipe.target.level == "char" else "PER"
    return rate("WER", found.wer, within[0]), rate(token, found.per, within[1])
