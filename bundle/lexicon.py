"""The exception lexicon: sources whose answers are known, and are given instead of decoded.

A file of lines in UTF-8: a source, a tab, a target, and after further tabs further targets, the best first.
Every line ends with a newline. There is no header, no comment and no blank line: whatever a line begins with
is a source. Knows nothing about folders, requests or answers.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bundle.errors import BundleError
from bundle.manifest import LEXICON, MOST_LEXICON_ENTRIES, Limits
from bundle.text import CHARACTERS_PER_TOKEN, SourceText, TargetText, control_character
from bundle.values import MOST_BEAM, UNKNOWN_ID

LARGEST_LEXICON_BYTES = 16 * 2**20
LINES_AT_A_TIME = 16  # about a third of a millisecond

Targets = tuple[tuple[int, ...], ...]  # ids without <E>, the best first
Key = tuple[int, ...] | str


@dataclass(frozen=True)
class Lexicon:
    """Targets by source, checked. `sha256`: of the file's bytes, in lower-case hex."""

    sha256: str
    source: SourceText
    entries: Mapping[Key, Targets]

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, text: str, ids: list[int]) -> Targets | None:
        """The targets of a text whose source ids are known; None where it has no entry."""
        return self.entries.get(_key(self.source, text, ids))


def read_lexicon(
    data: bytes,
    source: SourceText,
    target: TargetText,
    limits: Limits,
    file: str = LEXICON,
    rest: Callable[[], None] = lambda: None,
) -> Lexicon:
    """Check every line and return all of them. Raises BundleError, which names `file` and the line.

    `rest` is called every few lines: a thread may let others go first.
    """
    entries: dict[Key, Targets] = {}
    for number, line in enumerate(_lines(file, data), 1):
        if number % LINES_AT_A_TIME == 0:
            rest()
        try:
            text, *targets = line.split("\t")
            key = _key(source, text, _ids(source, "the source", text, limits.max_source_length))
            if key in entries:
                raise ValueError(f"the source of line {list(entries).index(key) + 1} again; once is allowed")
            entries[key] = _targets(target, targets, limits.max_target_length)
        except ValueError as error:
            raise BundleError(f"{file}: line {number}: {error}") from None
    return Lexicon(hashlib.sha256(data).hexdigest(), source, entries)


def _lines(file: str, data: bytes) -> list[str]:
    if not 0 < len(data) <= LARGEST_LEXICON_BYTES:
        raise BundleError(f"{file}: {len(data)} bytes; 1 to {LARGEST_LEXICON_BYTES} are allowed")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BundleError(f"{file}: line {line}: not UTF-8; only UTF-8 is allowed") from None
    if text.startswith("\ufeff"):
        raise BundleError(f"{file}: line 1: begins with a byte order mark; none is allowed")
    *lines, unended = text.split("\n")
    if unended:
        raise BundleError(f"{file}: line {len(lines) + 1}: cut off; every line ends with a newline")
    if len(lines) > MOST_LEXICON_ENTRIES:
        raise BundleError(f"{file}: {len(lines)} lines; at most {MOST_LEXICON_ENTRIES} are allowed")
    return lines


def _targets(target: TargetText, texts: list[str], most: int) -> Targets:
    if not 1 <= len(texts) <= MOST_BEAM:
        raise ValueError(
            f"{len(texts)} targets; after the source, 1 to {MOST_BEAM} are allowed, tabs between"
        )
    found: list[tuple[int, ...]] = []
    for number, text in enumerate(texts, 1):
        name = f"target {number}"
        ids = _ids(target, name, text, most)
        if UNKNOWN_ID in ids:
            place = ids.index(UNKNOWN_ID) + 1
            raise ValueError(f"{name}: token {place} is not in the target vocabulary; its tokens are allowed")
        if tuple(ids) in found:
            raise ValueError(f"{name} is given twice; once is allowed")
        found.append(tuple(ids))
    return tuple(found)


def _ids(vocabulary: SourceText | TargetText, name: str, text: str, most: int) -> list[int]:
    """Ids of a text that a request might hold, 1 to `most` of them."""
    if len(text) > most * CHARACTERS_PER_TOKEN:
        raise ValueError(f"{name} has {len(text)} characters; at most {most} tokens are allowed")
    if (place := control_character(text)) is not None:
        raise ValueError(f"{name} holds the control character U+{ord(text[place]):04X}; none are allowed")
    ids = vocabulary.encode(text)
    if not 1 <= len(ids) <= most:
        raise ValueError(f"{name} has {len(ids)} tokens; 1 to {most} are allowed")
    return ids


def _key(source: SourceText, text: str, ids: list[int]) -> Key:
    """What two texts share that are the same source: their tokens, and what the vocabulary lacks of them.

    The ids tell texts apart that the vocabulary can spell; the others would all be alike where they are
    unknown, so there the normalised text does.
    """
    return source.normalise(text) if UNKNOWN_ID in ids else tuple(ids)
