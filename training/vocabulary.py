"""The vocabularies of a recipe, from its training texts.

Knows nothing of models: the tokenizers files that it builds travel through checkpoint and bundle.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from bundle.text import UNKNOWN, SourceText, TargetText, build_source, build_target
from training.data import Split
from training.recipe import Recipe, Text


def build_texts(recipe: Recipe, train: Split) -> tuple[bytes, bytes]:
    """source.json and target.json: every token seen in training, the most frequent first."""
    sources = _tokens(
        SourceText(_build(build_source, [], recipe.source)), (pair.source for pair in train.pairs)
    )
    targets = _tokens(
        TargetText(_build(build_target, [], recipe.target)),
        (text for pair in train.pairs for text in pair.targets),
    )
    return _build(build_source, sources, recipe.source), _build(build_target, targets, recipe.target)


def rebuild_texts(recipe: Recipe, source: bytes, target: bytes) -> tuple[bytes, bytes]:
    """The same vocabularies in the form that `build_texts` gives them now; a checkpoint may be older."""
    _, _, *sources = SourceText(source).tokens
    _, _, *targets, _ = TargetText(target).tokens
    return _build(build_source, sources, recipe.source), _build(build_target, targets, recipe.target)


def _build(builder: Callable[..., bytes], tokens: list[str], text: Text) -> bytes:
    return builder(tokens, text.level, text.lowercase, strip_accents=text.strip_accents)


def _tokens(reader: SourceText | TargetText, texts: Iterable[str]) -> list[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(reader.pieces(text))
    counts.pop(UNKNOWN, None)  # what a text's own spelling of a special token becomes
    return sorted(counts, key=lambda token: (-counts[token], token))
