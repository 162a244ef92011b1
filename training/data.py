"""Text pairs: read from tab-separated files, and audited.

Knows nothing of models. A file holds a source, then one or more targets, a line, separated by tabs (UTF-8).
Two sources, and two targets, are the same where a model reads them alike: Smith is smith to one that
lowercases.
"""

import hashlib
import itertools
import random
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from bundle.text import normaliser
from training.recipe import Files, Recipe, Reverse

MAX_BAD_SHARE = 0.05
MAX_LINE_BYTES = 10_000


class DataError(ValueError):
    """The data cannot be trained on: the caller's fault. The text names the file and the lines."""


@dataclass(frozen=True)
class Pair:
    """A source, every target that is right for it, and the source normalised, as a model reads it."""

    source: str
    targets: tuple[str, ...]
    read: str


@dataclass(frozen=True)
class Part:
    """What a file brought to a split: pairs that no file before it has; its bad lines, by number."""

    file: str
    examples: int
    several_share: float  # of its own sources, those with several targets
    sha256: str
    bad_lines: list[tuple[int, str]]


@dataclass
class Split:
    """The pairs of one file or more; of which, unless they were made up."""

    name: str
    pairs: list[Pair]
    sha256: str
    repeated: int = 0
    parts: list[Part] = field(default_factory=list)

    @property
    def examples(self) -> int:
        """Source-target pairs, each target counted."""
        return sum(len(pair.targets) for pair in self.pairs)

    def by_source(self) -> dict[str, tuple[str, ...]]:
        """All targets of each source, over all its lines and spellings, by its first one."""
        spelled: dict[str, str] = {}
        grouped: dict[str, dict[str, None]] = {}
        for pair in self.pairs:
            source = spelled.setdefault(pair.read or pair.source, pair.source)
            grouped.setdefault(source, {}).update(dict.fromkeys(pair.targets))
        return {source: tuple(targets) for source, targets in grouped.items()}

    @property
    def several(self) -> int:
        """Sources with several targets."""
        return sum(len(targets) > 1 for targets in self.by_source().values())

    def sources(self) -> set[str]:
        """All of them, as a model reads them, but for those of which that leaves nothing."""
        return {pair.read for pair in self.pairs if pair.read}


def find_kin(sources: Iterable[str], known: Collection[str], endings: Sequence[str]) -> set[str]:
    """Those of the sources that are a known one with an ending more or less: its inflections, say."""

    def is_kin(source: str) -> bool:
        shorter = (source.removesuffix(ending) for ending in endings if source.endswith(ending))
        return any(source + ending in known for ending in endings) or any(stem in known for stem in shorter)

    return {source for source in sources if is_kin(source)}


def load_splits(recipe: Recipe, folder: Path | None = None) -> dict[str, Split]:
    """The splits of a recipe: train and dev, and test where there is one. `folder` replaces the recipe's.

    Raises DataError when a file is missing or empty, or when more than 5 % of its lines are bad.
    """
    normalise = normalisers(recipe)
    if isinstance(recipe.data, Reverse):
        return _reversed_strings(recipe.data, recipe.training.seed, normalise.source)
    home, files = folder or Path(recipe.data.folder), _named_files(recipe.data)
    splits = {name: read_split(home / file, name, normalise) for name, file in files if file}
    for extra in recipe.data.extras:
        more = read_split(home / extra.file, extra.file, normalise)
        splits["train"] = _joined(splits["train"], more, normalise.target)
    return splits


class Normalisers(NamedTuple):
    """What gives a source, and a target, the spelling that a model reads."""

    source: Callable[[str], str]
    target: Callable[[str], str]


def normalisers(recipe: Recipe) -> Normalisers:
    """Those of a recipe's models."""
    source, target = (
        normaliser(text.level, text.lowercase, text.strip_accents) for text in (recipe.source, recipe.target)
    )
    if recipe.target.level == "word":
        return Normalisers(source, lambda text: " ".join(target(text).split()))
    return Normalisers(source, target)


def _named_files(data: Files) -> tuple[tuple[str, str], ...]:
    return ("train", data.train), ("dev", data.dev), ("test", data.test)


def read_split(path: Path, name: str, normalise: Normalisers) -> Split:
    """Reads one file. Bad lines are left out and listed with their number and reason.

    Sources, and the targets of one, are told apart by the spelling that a model reads; the first one is kept.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    split = Split(name, [], hashlib.sha256(content).hexdigest())
    bad_lines: list[tuple[int, str]] = []
    lines = content.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n")
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(lines, start=1):
        columns, reason = _columns(line.removesuffix(b"\r"))
        if reason:
            bad_lines.append((number, reason))
            continue
        source, *targets = columns
        read = normalise.source(source)
        fresh = _fresh(read, targets, normalise.target, seen)
        split.repeated += len(targets) - len(fresh)
        if fresh:
            split.pairs.append(Pair(source, fresh, read))
    if not split.pairs or len(bad_lines) > MAX_BAD_SHARE * len(lines):
        shown = "; ".join(f"line {number}: {reason}" for number, reason in bad_lines[:5])
        raise DataError(
            f"{path}: {len(bad_lines)} of {len(lines)} lines are bad ({shown}); "
            "expected, in UTF-8: source TAB target [TAB target ...]"
        )
    share = split.several / len(split.by_source())
    split.parts.append(Part(path.name, split.examples, share, split.sha256, bad_lines))
    return split


def read_words(path: Path) -> list[str]:
    """The first column of each line, once. Raises DataError."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8, from byte {error.start} on") from error
    return list(filter(None, dict.fromkeys(line.split("\t")[0].strip() for line in lines)))


def _fresh(
    read: str, targets: Iterable[str], normalise: Callable[[str], str], seen: set[tuple[str, str]]
) -> tuple[str, ...]:
    """The targets that a source, as it is read, did not have before; from now on it has."""
    found = []
    for target in targets:
        pair = read, normalise(target)
        if pair not in seen:
            seen.add(pair)
            found.append(target)
    return tuple(found)


def _joined(split: Split, extra: Split, normalise: Callable[[str], str]) -> Split:
    """Both as one, the first's pairs first; a pair that both have counts as repeated."""
    seen = {(pair.read, normalise(target)) for pair in split.pairs for target in pair.targets}
    pairs, repeated = list(split.pairs), split.repeated + extra.repeated
    for pair in extra.pairs:
        fresh = _fresh(pair.read, pair.targets, normalise, seen)
        repeated += len(pair.targets) - len(fresh)
        if fresh:
            pairs.append(Pair(pair.source, fresh, pair.read))
    digest = hashlib.sha256(f"{split.sha256} {extra.sha256}".encode()).hexdigest()
    brought = sum(len(pair.targets) for pair in pairs[len(split.pairs) :])
    parts = [*split.parts, *(replace(part, examples=brought) for part in extra.parts)]
    return Split(split.name, pairs, digest, repeated, parts)


def _columns(line: bytes) -> tuple[list[str], str]:
    """The columns of a line, or the reason why it is bad."""
    if len(line) > MAX_LINE_BYTES:
        return [], f"{len(line)} bytes; at most {MAX_LINE_BYTES}"
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return [], "not UTF-8"
    if "\t" not in text:
        return [], "no tab"
    if any(unicodedata.category(character) == "Cc" and character != "\t" for character in text):
        return [], "a control character"
    columns = [column.strip() for column in text.split("\t")]
    if not all(columns):
        return [], "an empty column"
    return columns, ""


def _reversed_strings(task: Reverse, seed: int, normalise: Callable[[str], str]) -> dict[str, Split]:
    """Distinct random strings of 1 to max_length letters, with their reverses; no string is in two splits."""
    chance = random.Random(seed)
    wanted = {"train": task.train, "dev": task.dev, "test": task.test}
    strings: dict[str, None] = {}
    for _ in range(20 * sum(wanted.values())):
        strings["".join(chance.choices(task.alphabet, k=chance.randint(1, task.max_length)))] = None
        if len(strings) == sum(wanted.values()):
            break
    else:
        raise DataError(f"data.train + dev + test: fewer than {sum(wanted.values())} distinct strings exist")
    drawn = list(strings)
    chance.shuffle(drawn)  # the rare short strings are drawn early: spread them over the splits
    splits = {}
    for name, count in wanted.items():
        texts = [drawn.pop() for _ in range(count)]
        pairs = [Pair(text, (text[::-1],), normalise(text)) for text in texts]
        splits[name] = Split(name, pairs, hashlib.sha256("\n".join(texts).encode()).hexdigest())
    return splits


def audit(splits: dict[str, Split]) -> dict[str, object]:
    """What a person should know of the data before training on it.

    Sources that two splits share, to a model that reads them, are leaks.
    """
    report: dict[str, object] = {}
    for name, split in splits.items():
        grouped = split.by_source()
        report[name] = {
            "sources": len(grouped),
            "examples": split.examples,
            "sources_with_several_targets": split.several,
            "sources_that_normalise_to_nothing": len(grouped) - len(split.sources()),
            "repeated_pairs_dropped": split.repeated,
            "bad_lines": [
                {"file": part.file, "line": number, "reason": reason}
                for part in split.parts
                for number, reason in part.bad_lines
            ],
            "files": [
                {"file": part.file, "examples": part.examples, "sha256": part.sha256} for part in split.parts
            ],
            "sha256": split.sha256,
        }
    for first, second in itertools.combinations(splits, 2):
        shared = sorted(splits[first].sources() & splits[second].sources())
        report[f"sources_in_both_{first}_and_{second}"] = {"count": len(shared), "first": shared[:10]}
    return report
