"""A lexicon is read line by line, and refused by the line; what matches is the same source to the model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.errors import BundleError
from bundle.lexicon import LARGEST_LEXICON_BYTES, Lexicon, read_lexicon
from bundle.manifest import LEXICON, MOST_LEXICON_ENTRIES, Limits
from bundle.reader import read_bundle
from bundle.text import SourceText, TargetText, build_source, build_target
from bundle.values import MOST_BEAM

LETTERS = SourceText(build_source("abcdefg", "char", True, strip_accents=True))
WORDS = SourceText(build_source(["one", "two"], "word"))
TARGET = TargetText(build_target(["X", "Y", "Z"], "word"))
LIMITS = Limits(max_source_length=8, max_target_length=3)


def read(text: str | bytes, source: SourceText = LETTERS) -> Lexicon:
    data = text.encode() if isinstance(text, str) else text
    return read_lexicon(data, source, TARGET, LIMITS)


def find(lexicon: Lexicon, text: str, source: SourceText = LETTERS) -> list[str] | None:
    targets = lexicon.find(text, source.encode(text))
    return None if targets is None else [TARGET.decode(ids) for ids in targets]


def test_a_line_is_a_source_and_its_targets_best_first() -> None:
    lexicon = read("abc\tX Y\tZ\nd\tY\n")
    assert len(lexicon) == 2
    assert find(lexicon, "abc") == ["X Y", "Z"] and find(lexicon, "d") == ["Y"]
    assert find(lexicon, "ab") is None and find(lexicon, "abcd") is None


def test_what_the_model_reads_alike_is_the_same_source() -> None:
    lexicon = read("Ébc\tX\n")
    assert [find(lexicon, text) for text in ("ebc", "EBC", "e\u0301bc", " ébc ")] == [["X"]] * 4
    assert find(read("one two\tX\n", WORDS), "one   two", WORDS) == ["X"]
    assert find(read("one\tX\n", WORDS), "ONE", WORDS) is None  # a model that tells case apart


def test_what_the_vocabulary_lacks_is_told_apart_all_the_same() -> None:
    """Digits are the same <unk> to the model; an exception is for one of them."""
    lexicon = read("a1\tX\nA2\tY\n1\tZ\n")
    assert LETTERS.encode("a1") == LETTERS.encode("a2")
    assert [find(lexicon, text) for text in ("a1", "A1", "a2", "a3", "1", "2")] == [
        *(["X"], ["X"], ["Y"], None),
        *(["Z"], None),
    ]


def test_any_first_field_is_a_source() -> None:
    lexicon = read("#a\tX\n \u2028b\tY\n")
    assert find(lexicon, "#a") == ["X"] and find(lexicon, "\u2028b") == ["Y"]


def test_targets_are_as_the_vocabulary_spells_them() -> None:
    assert find(read("a\t X   Y \n"), "a") == ["X Y"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "0 bytes; 1 to"),
        ("a\tX", "line 1: cut off; every line ends with a newline"),
        ("a\tX\nb\tY Z", "line 2: cut off"),
        (b"a\tX\nb\xff\tY\n", "line 2: not UTF-8"),
        ("\ufeffa\tX\n", "line 1: begins with a byte order mark"),
        ("a\tX\r\nb\tY\r\n", "line 1: target 1 holds the control character U+000D"),
        ("a\0\tX\n", "line 1: the source holds the control character U+0000"),
        ("a\n", "line 1: 0 targets"),
        ("a\tX\n\nb\tY\n", "line 2: the source has 0 tokens"),
        ("\tX\n", "line 1: the source has 0 tokens"),
        ("  \tX\n", "line 1: the source has 0 tokens"),
        ("abcdabcda\tX\n", "line 1: the source has 9 tokens; 1 to 8 are allowed"),
        ("a" * 513 + "\tX\n", "line 1: the source has 513 characters"),
        ("a\t\n", "line 1: target 1 has 0 tokens"),
        ("a\tX\t\n", "line 1: target 2 has 0 tokens"),
        ("a\tX Y Z X\n", "line 1: target 1 has 4 tokens; 1 to 3 are allowed"),
        ("a\tX Q\n", "line 1: target 1: token 2 is not in the target vocabulary"),
        ("a\tX <S>\n", "line 1: target 1: token 2 is not in the target vocabulary"),
        ("a\tX\tX\n", "line 1: target 2 is given twice"),
        ("a\tX" + "\tY" * MOST_BEAM + "\n", f"line 1: {MOST_BEAM + 1} targets"),
        ("b\tX\na\tX\nÀ\tY\n", "line 3: the source of line 2 again"),
        ("a1\tX\nb\tX\nA1\tY\n", "line 3: the source of line 1 again"),
        ("a\tX\n" * (MOST_LEXICON_ENTRIES + 1), f"{MOST_LEXICON_ENTRIES + 1} lines; at most"),
        (b"a" * (LARGEST_LEXICON_BYTES + 1), f"{LARGEST_LEXICON_BYTES + 1} bytes; 1 to"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(text: str | bytes, says: str) -> None:
    with pytest.raises(BundleError) as refused:
        read(text)
    assert str(refused.value).startswith(f"{LEXICON}: {says}")


def test_a_reader_lets_others_go_first() -> None:
    rests: list[None] = []
    digits = "\u0660\u0661\u0662\u0663"
    lines = "".join(f"{a}{b}{c}\tX\n" for a in digits for b in digits for c in digits)
    read_lexicon(lines.encode(), LETTERS, TARGET, LIMITS, rest=lambda: rests.append(None))
    assert len(rests) == 4


def test_a_bundle_carries_one(publish_changed: Callable[..., Path], folder: Path) -> None:
    assert read_bundle(folder).lexicon is None
    bundle = read_bundle(publish_changed({LEXICON: b"ab\tX\nc\tY\tZ\n"}, version=2, lexicon_entries=2))
    assert bundle.lexicon is not None and bundle.lexicon.find("ab", [2, 3]) == ((2,),)
    assert bundle.lexicon.sha256 == bundle.manifest.files[LEXICON].sha256


@pytest.mark.parametrize(
    ("data", "entries", "says"),
    [
        (b"ab\tX\n", 2, f"{LEXICON}: 1 entries; the manifest allows exactly 2"),
        (b"ab\tQ\n", 1, f"{LEXICON}: line 1: target 1: token 1 is not"),
        (b"ab\tX\n", 0, "files: "),
        (None, 1, "files: "),
    ],
)
def test_a_bundle_whose_lexicon_is_not_as_listed_is_refused(
    publish_changed: Callable[..., Path], data: bytes | None, entries: int, says: str
) -> None:
    with pytest.raises(BundleError) as refused:
        publish_changed({LEXICON: data} if data else {}, lexicon_entries=entries)
    assert str(refused.value).startswith(says)
