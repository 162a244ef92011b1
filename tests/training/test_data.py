"""What is read from files, what is refused, and that splits do not leak unseen."""

import hashlib
from pathlib import Path

import pytest
from msgspec import structs

from bundle.text import SourceText, TargetText, normaliser
from training.data import (
    MAX_LINE_BYTES,
    DataError,
    Normalisers,
    Split,
    audit,
    load_splits,
    normalisers,
    read_split,
)
from training.examples import to_examples
from training.recipe import Files, Limits, Recipe, Text
from training.vocabulary import build_texts

GOOD = b"".join(b"word%d\tW %d\n" % (number, number) for number in range(40))


def read(tmp_path: Path, content: bytes) -> Split:
    path = tmp_path / "pairs.tsv"
    path.write_bytes(content)
    return read_split(path, "train", Normalisers(str.lower, str))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"no tab here", "no tab"),
        (b"", "no tab"),
        (b"word\t", "an empty column"),
        (b"\tW", "an empty column"),
        (b"word\t  \tW", "an empty column"),
        (b"wo\x00rd\tW", "a control character"),
        (b"word\tW\x1f", "a control character"),
        (b"word\t\xff\xfe", "not UTF-8"),
        (b"word\t" + b"W" * MAX_LINE_BYTES, f"{MAX_LINE_BYTES + 5} bytes; at most {MAX_LINE_BYTES}"),
    ],
)
def test_a_bad_line_is_left_out_and_named(tmp_path: Path, line: bytes, reason: str) -> None:
    split = read(tmp_path, GOOD + line + b"\nlast\tL\n")
    assert split.parts[0].bad_lines == [(41, reason)]
    assert len(split.pairs) == 41


def test_more_than_a_twentieth_of_bad_lines_is_refused_with_their_numbers(tmp_path: Path) -> None:
    assert len(read(tmp_path, GOOD + b"bad\nbad\n").parts[0].bad_lines) == 2  # 2 of 42
    with pytest.raises(DataError, match=r"3 of 43 lines are bad \(line 41: no tab; line 42: no tab; line 43"):
        read(tmp_path, GOOD + b"bad\nbad\nbad\n")


def test_byte_order_mark_carriage_returns_and_spaces_are_no_part_of_a_text(tmp_path: Path) -> None:
    split = read(tmp_path, b"\xef\xbb\xbffirst\tF\r\n second \t S T \r\n")
    assert [(pair.source, pair.targets) for pair in split.pairs] == [("first", ("F",)), ("second", ("S T",))]
    assert not split.parts[0].bad_lines


def test_repeated_pairs_are_dropped_and_further_targets_kept(tmp_path: Path) -> None:
    split = read(tmp_path, b"a\tX\tY\tX\na\tY\na\tZ\nb\tX\n")
    assert split.by_source() == {"a": ("X", "Y", "Z"), "b": ("X",)}
    assert (split.repeated, split.examples) == (2, 4)


def test_a_source_is_the_same_in_every_spelling_that_is_read_alike(tmp_path: Path, tiny: Recipe) -> None:
    """Here all is read in lower case: grouped by what is first, repeats found, leaks counted."""
    train = read(tmp_path, b"Smith\tS\nsmith\tS\tT\nb\tB\n")
    assert train.by_source() == {"Smith": ("S", "T"), "b": ("B",)}
    assert (train.repeated, train.examples) == (1, 3)
    assert (len(train.pairs), len(train.sources())) == (3, 2)
    test = read(tmp_path, b"SMITH\tS\nc\tC\n")
    leaks = audit({"train": train, "test": test})["sources_in_both_train_and_test"]
    assert leaks == {"count": 1, "first": ["smith"]}
    texts = build_texts(tiny, train)
    limits = Limits(max_source_length=9, max_target_length=9)
    examples = to_examples(train, SourceText(texts[0]), TargetText(texts[1]), limits)
    assert examples.groups.tolist() == [0, 0, 1]


def test_files_are_read_as_the_recipes_model_reads_them(tmp_path: Path, tiny: Recipe) -> None:
    """Accents and all: whichever file a spelling is in, and not where the recipe keeps them apart."""
    for name, line in {"train": "Šmith\tS", "extra": "smith\tS", "dev": "SMITH\tS"}.items():
        (tmp_path / f"{name}.tsv").write_text(f"{line}\n{name}\tX\n")
    names = {"train": "train.tsv", "dev": "dev.tsv", "extra": ("extra.tsv",)}
    files = Files(folder=str(tmp_path), name="-", licence="-", **names)
    alike, apart = (
        load_splits(structs.replace(tiny, data=files, source=text))
        for text in (Text(level="char", lowercase=True, strip_accents=True), Text(level="char"))
    )
    counts = [audit(splits)["sources_in_both_train_and_dev"]["count"] for splits in (alike, apart)]
    assert (counts, alike["train"].repeated, apart["train"].repeated) == ([1, 0], 1, 0)


def test_sources_that_normalise_to_nothing_are_counted_and_no_leak(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("\u0301\tA\nb\tB\n\u0302\tC\n")
    normalise = normaliser("char", False, strip_accents=True)
    split = read_split(path, "train", Normalisers(normalise, str))
    assert list(split.by_source()) == ["\u0301", "b", "\u0302"]
    report = audit({"train": split, "test": split})
    assert report["test"]["sources_that_normalise_to_nothing"] == 2
    assert report["sources_in_both_train_and_test"] == {"count": 1, "first": ["b"]}


def test_the_audit_tells_apart_what_each_file_brought(tmp_path: Path, tiny: Recipe) -> None:
    extra = b"word0\tW 0\nnew\tN\tM\n" + GOOD + b"\tworse\n"
    contents = {"train": GOOD + b"bad\n", "extra": extra, "dev": b"d\tD\n"}
    for name, content in contents.items():
        (tmp_path / f"{name}.tsv").write_bytes(content)
    names = {"train": "train.tsv", "dev": "dev.tsv", "extra": ("extra.tsv",)}
    files = Files(folder=str(tmp_path), name="-", licence="-", **names)
    report = audit(load_splits(structs.replace(tiny, data=files)))
    assert report["train"]["bad_lines"] == [
        {"file": "train.tsv", "line": 41, "reason": "no tab"},
        {"file": "extra.tsv", "line": 43, "reason": "an empty column"},
    ]
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    assert report["train"]["files"] == [
        {"file": "train.tsv", "examples": 40, "sha256": digests["train"]},
        {"file": "extra.tsv", "examples": 2, "sha256": digests["extra"]},
    ]
    assert report["train"]["examples"] == 42
    assert report["dev"]["files"] == [{"file": "dev.tsv", "examples": 1, "sha256": digests["dev"]}]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_without_a_usable_line_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"(\d) of \1 lines are bad"):
        read(tmp_path, content)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_split(tmp_path / "none.tsv", "train", Normalisers(str, str))


def test_the_audit_counts_sources_in_two_splits(tmp_path: Path) -> None:
    train, dev = read(tmp_path, b"a\tA\nb\tB\nc\tC\n"), read(tmp_path, b"c\tC\nd\tD\nb\tB\n")
    report = audit({"train": train, "dev": dev})
    assert report["sources_in_both_train_and_dev"] == {"count": 2, "first": ["b", "c"]}
    clean = audit({"train": train, "dev": read(tmp_path, b"d\tD\n")})
    assert clean["sources_in_both_train_and_dev"] == {"count": 0, "first": []}


def test_the_toy_task_shares_no_string_between_splits_and_is_always_the_same(tiny: Recipe) -> None:
    splits = load_splits(tiny)
    strings = {name: {pair.source for pair in split.pairs} for name, split in splits.items()}
    assert {name: len(found) for name, found in strings.items()} == {"train": 300, "dev": 40, "test": 20}
    assert len(set.union(*strings.values())) == 360
    assert all(pair.targets == (pair.source[::-1],) for pair in splits["test"].pairs)
    assert load_splits(tiny)["train"].sha256 == splits["train"].sha256


def test_vocabularies_hold_what_training_saw_the_frequent_first(tmp_path: Path, tiny: Recipe) -> None:
    source, target = build_texts(tiny, read(tmp_path, b"abb\tbba\ncb\tbc\n"))
    assert SourceText(source).tokens == ("<pad>", "<unk>", "b", "a", "c")
    assert TargetText(target).tokens == ("<E>", "<unk>", "b", "a", "c", "<S>")
    assert SourceText(source).encode("az") == [3, 1]


def test_targets_that_a_model_reads_alike_are_one(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("ahmed\tAhmed\tahmed\tAHMET\nAHMED\tahmet\tAhmad\n")
    alike, apart = (read_split(path, "train", Normalisers(str.lower, target)) for target in (str.lower, str))
    assert alike.by_source() == {"ahmed": ("Ahmed", "AHMET", "Ahmad")} and alike.repeated == 2
    assert len(apart.by_source()["ahmed"]) == 5


def test_blanks_between_words_tell_no_targets_apart(tmp_path: Path, tiny: Recipe) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("a\tX  Y\tX Y\n")
    for level, targets in (("word", 1), ("char", 2)):
        recipe = structs.replace(tiny, target=Text(level=level))
        assert read_split(path, "train", normalisers(recipe)).examples == targets


def test_a_pair_that_an_extra_file_spells_otherwise_counts_once(tmp_path: Path, tiny: Recipe) -> None:
    for name, text in {"train": "a\tX\n", "dev": "b\tY\n", "extra": "A\tx\tz\n"}.items():
        (tmp_path / f"{name}.tsv").write_text(text)
    files = Files(
        folder="", train="train.tsv", dev="dev.tsv", extra=("extra.tsv",), name="Own", licence="CC0-1.0"
    )
    low = Text(level="char", lowercase=True)
    train = load_splits(structs.replace(tiny, data=files, source=low, target=low), tmp_path)["train"]
    assert train.by_source() == {"a": ("X", "z")} and train.repeated == 1


def test_only_the_end_of_a_line_ends_it(tmp_path: Path) -> None:
    split = read(tmp_path, GOOD + b"crlf\tA\r\ninside\tB\rc\tC\n")
    assert split.pairs[-1].source == "crlf" and split.pairs[-1].targets == ("A",)
    assert split.parts[0].bad_lines == [(42, "a control character")]


def test_special_tokens_that_a_text_spells_out_are_no_tokens(tmp_path: Path, tiny: Recipe) -> None:
    split = read(tmp_path, b"a b\tX Y\n<S> b\tX\na\t<E> Y\n")
    texts = build_texts(structs.replace(tiny, source=Text(level="word"), target=Text(level="word")), split)
    source, target = SourceText(texts[0]), TargetText(texts[1])
    assert source.tokens == ("<pad>", "<unk>", "a", "b")
    assert target.tokens == ("<E>", "<unk>", "X", "Y", "<S>")
    examples = to_examples(split, source, target, Limits(max_source_length=3, max_target_length=3))
    assert (len(examples), examples.left_out) == (2, 1)


@pytest.mark.parametrize("several", [0, 3])
def test_a_file_says_how_many_of_its_sources_have_several_targets(tmp_path: Path, several: int) -> None:
    more = b"".join(b"word%d\tX\n" % number for number in range(several))
    assert read(tmp_path, GOOD + more).parts[0].several_share == several / 40


def test_examples_over_the_limits_are_left_out_and_counted(tmp_path: Path, tiny: Recipe) -> None:
    split = read(tmp_path, b"ab\tba\nabc\tcba\nb\tbbbb\n")
    source, target = build_texts(tiny, split)
    texts = SourceText(source), TargetText(target)
    examples = to_examples(split, *texts, Limits(max_source_length=2, max_target_length=3))
    assert (len(examples), examples.left_out) == (1, 2)
    assert texts[1].decode(examples.target[0].tolist()) == "ba"
    with pytest.raises(DataError, match="over the limits"):
        to_examples(split, *texts, Limits(max_source_length=1, max_target_length=1))
