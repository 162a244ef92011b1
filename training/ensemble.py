"""Trained runs that answer together, as an ensemble: the mean of their probabilities decides.

A run alone is an ensemble too. Runs that spell backwards are a second ensemble, and both must agree on an
answer. Knows nothing of what becomes of the answers.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bundle.text import SourceText, TargetText
from training.agreement import agree
from training.beam import BeamOptions, Hypothesis
from training.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from training.data import Split
from training.evaluate import Verdict, answer, judge, search, spelled
from training.model import Seq2Seq


@dataclass(frozen=True)
class Ensemble:
    """The best models of one run or more, which share their vocabularies, and how they decode."""

    checkpoint: Checkpoint  # the first
    forwards: list[Seq2Seq]  # those that spell so
    backwards: list[Seq2Seq]
    options: BeamOptions
    is_beam: bool

    @property
    def texts(self) -> tuple[SourceText, TargetText]:
        """How they read and write."""
        return self.checkpoint.texts()

    @property
    def decoding(self) -> str:
        """For people and model cards."""
        beam = f"beam {self.options.width}, length penalty {self.options.length_penalty:g}"
        count = len(self.forwards) + len(self.backwards)
        together = f", {count} models" if count > 1 else ""
        agreed = f", {len(self.backwards)} of them backwards" if self.forwards and self.backwards else ""
        return (beam if self.is_beam else "greedy") + together + agreed

    @property
    def suffix(self) -> str:
        """What tells files of its figures from those of another decoding; empty for greedy decoding."""
        penalty = f"-penalty-{self.options.length_penalty:g}" if self.options.length_penalty else ""
        return f"-beam-{self.options.width}{penalty}" if self.is_beam else ""

    def answers(self, sources: Sequence[Sequence[int]]) -> list[list[Hypothesis]]:
        """The n_best of each source. One model's greedy answers are made as the service makes them."""
        if self.forwards and self.backwards:
            return agree(self.forwards, self.backwards, sources, self.options)
        models, backwards = self.forwards or self.backwards, bool(self.backwards)
        if self.is_beam or len(models) > 1:
            found = search(models, sources, self.options)
        else:
            greedy = answer(models[0], sources, self.options.max_length)
            found = [[Hypothesis(tuple(ids), tuple(scores), sum(scores))] for ids, scores in greedy]
        return [[_as_read(one, backwards) for one in best] for best in found]

    def answers_to(self, split: Split) -> list[list[Hypothesis]]:
        """The n_best of each source of a split."""
        return self.answers(self.texts[0].encode_many(list(split.by_source())))

    def judge(self, split: Split, answers: Sequence[Sequence[Hypothesis]]) -> list[Verdict]:
        """Holds the best answer to each source against a split."""
        return judge([list(best.ids) for best, *_ in answers], split.by_source(), self.texts[1])


def load_ensemble(runs: Sequence[Path], options: argparse.Namespace) -> Ensemble:
    """Raises CheckpointError when a run has no best model, or another vocabulary than the first.

    And where some spell backwards and others forwards, without a beam in whose hypotheses they may agree.
    """
    checkpoints = [load_checkpoint(run / "best.safetensors") for run in runs]
    first = checkpoints[0]
    for run, other in zip(runs, checkpoints, strict=True):
        if (other.source_text, other.target_text) != (first.source_text, first.target_text):
            raise CheckpointError(f"{run}: has another vocabulary than {runs[0]}")
        if other.recipe.model.backwards != first.recipe.model.backwards and not options.beam:
            raise CheckpointError(f"{run}: spells from the other end than {runs[0]}; --beam is needed")
    width, n_best = options.beam or 1, getattr(options, "n_best", 1)
    beam = BeamOptions(width, n_best, options.length_penalty, first.recipe.limits.max_target_length)
    forwards, backwards = (
        [one.model() for one in checkpoints if one.recipe.model.backwards is backwards]
        for backwards in (False, True)
    )
    return Ensemble(first, forwards, backwards, beam, bool(options.beam))


def _as_read(found: Hypothesis, backwards: bool) -> Hypothesis:
    """Ids in the order in which a person reads them; scores stay in the order in which they were found."""
    return replace(found, ids=tuple(spelled(found.ids, backwards)))
