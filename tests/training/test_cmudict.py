"""The dictionary's lines, and a split that keeps a word's forms together."""

from pathlib import Path

import pytest

from training.cmudict import DictionaryError, build, main, read_pronunciations, split_of, stem
from training.data import Normalisers, audit, read_split

LINES = b"""'cause K AH0 Z
a AH0
a(2) EY1
aalborg AO1 L B AO0 R G # place, danish
aalborg(2) AO0 L B AO1 R G
caf\xc3\xa9 K AH0 F EY1
c-3 S IY1 TH R IY1
d. D IY1
'  EH1 R
tomato T AH0 M EY1 T OW2
tomato(2) T AH0 M AA1 T OW2
"""


def test_stress_comments_and_strange_words_go_and_variants_stay() -> None:
    assert read_pronunciations(LINES) == {
        "'cause": ["K AH Z"],
        "a": ["AH", "EY"],
        "aalborg": ["AO L B AO R G"],
        "tomato": ["T AH M EY T OW", "T AH M AA T OW"],
    }


@pytest.mark.parametrize("content", [b"", b"# only a comment\n", b"\xff\xfe", b"word\n"])
def test_what_is_no_dictionary_is_refused(content: bytes) -> None:
    with pytest.raises(DictionaryError):
        read_pronunciations(content)


@pytest.mark.parametrize(
    "forms",
    ["chair chairs chair's chairs'", "ski skis skiing", "bake bakes baked baking", "run runs running"],
)
def test_forms_of_a_word_share_a_split(forms: str) -> None:
    assert len({stem(word) for word in forms.split()}) == 1
    assert len({split_of(word) for word in forms.split()}) == 1


def test_the_split_is_about_85_5_10_and_always_the_same() -> None:
    words = [f"{a}{b}{c}a" for a in "bcdfghklmn" for b in "aeiou" for c in "bcdfghklmnprstvwxz"]
    shares = {
        name: sum(split_of(word) == name for word in words) / len(words) for name in ("train", "dev", "test")
    }
    assert shares == pytest.approx({"train": 0.85, "dev": 0.05, "test": 0.10}, abs=0.03)
    assert (split_of("chairlift"), split_of("snow"), split_of("lift")) == ("dev", "train", "train")


def test_the_files_are_what_training_reads(tmp_path: Path) -> None:
    words = [f"{a}{b}x" for a in "bcdfghklmn" for b in "aeiou"]
    counts = build("".join(f"{word} B AH0\n{word}(2) B EH1\n" for word in words).encode(), b"terms", tmp_path)
    as_they_are, names = Normalisers(str, str), ("train", "dev", "test")
    splits = {name: read_split(tmp_path / f"{name}.tsv", name, as_they_are) for name in names}
    report = audit(splits)
    assert sum(found for found, _ in counts.values()) == len(words)
    assert [split.examples for split in splits.values()] == [examples for _, examples in counts.values()]
    assert report["sources_in_both_train_and_test"] == {"count": 0, "first": []}
    assert (tmp_path / "LICENCE.txt").read_bytes() == b"terms"


def test_a_dictionary_at_hand_needs_no_download(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cmudict.dict").write_bytes(LINES)
    assert main(["--to", str(tmp_path / "data"), "--dictionary", str(tmp_path / "cmudict.dict")]) == 0
    assert "train.tsv\t" in capsys.readouterr().out
    assert main(["--to", str(tmp_path / "data"), "--dictionary", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err
