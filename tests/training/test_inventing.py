"""Words are made up as those of a list are spelled, always the same ones, and none that is known."""

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.training.short_runs import said
from training.__main__ import main
from training.inventing import Letters, invent

BEGINNINGS, ENDS = ("qu", "sch", "st", "br", "m", "fl"), ("n", "ck", "lling", "ston", "ber", "sty")
WORDS = [f"{a}{b}{c}" for a in BEGINNINGS for b in "aeiou" for c in ENDS]


def test_words_are_new_and_each_comes_once() -> None:
    avoid = ["Stann", "quickn"]
    found = invent(WORDS, avoid, 200, seed=1)
    assert len(found) == 200 == len(set(found))
    assert not set(found) & {*WORDS, "stann", "quickn"}
    assert set("".join(found)) <= set("".join(WORDS))
    assert max(map(len, found)) <= max(map(len, WORDS))


def test_letters_follow_each_other_as_in_the_list() -> None:
    """After q comes u, but where a shorter context draws; single letters know nothing of it."""

    def share(order: int) -> float:
        letters, chance = Letters(WORDS, order), random.Random(3)
        words = [letters.draw(chance) for _ in range(4000)]
        after = Counter(word[word.index("q") + 1 :][:1] for word in words if "q" in word)
        return after["u"] / after.total()

    assert share(5) > 0.9
    assert share(1) < 0.3, "negative control"


def test_a_letter_is_drawn_from_a_shorter_context_as_often_as_the_formula_says() -> None:
    """After `a` came b three times: one in four draws looks at single letters, of which 3 of 9 are b."""
    letters, chance = Letters(["ab", "ab", "ab"], order=2), random.Random(4)
    drawn = Counter(letters._letter("a", chance) for _ in range(20_000))
    assert drawn["b"] / drawn.total() == pytest.approx(3 / 4 + 1 / 4 * 3 / 9, abs=0.01)


def test_a_seed_decides() -> None:
    assert invent(WORDS, [], 50, 1) == invent(WORDS, [], 50, 1) != invent(WORDS, [], 50, 2)


def test_a_list_that_makes_no_more_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words.tsv").write_text("a\tA\n")
    files = ("--words", tmp_path / "words.tsv", "--to", tmp_path / "made.txt")
    assert said(capsys, "invent", *files, "--count", 10) == f"{tmp_path}/made.txt\t0 of 10 words\n"


def test_a_list_of_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words.tsv").write_text("\n \n")
    assert main(["invent", "--words", str(tmp_path / "words.tsv"), "--to", str(tmp_path / "made.txt")]) == 2
    assert "no words to make others of" in capsys.readouterr().err


def test_the_command_writes_a_list_that_can_be_labelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.tsv").write_text("".join(f"{word}\tX Y\n" for word in WORDS))
    first = invent(WORDS, [], 40, seed=7)
    (tmp_path / "dev.tsv").write_text("".join(f"{word.upper()}\tX\n" for word in first[:20]))
    files = (
        "--words",
        tmp_path / "train.tsv",
        "--avoid",
        tmp_path / "dev.tsv",
        "--to",
        tmp_path / "made.txt",
    )
    said(capsys, "invent", *files, "--count", 30, "--seed", 7)
    made = (tmp_path / "made.txt").read_text().splitlines()
    assert len(made) == 30 and not set(made) & set(first[:20])
    for option, value in (("--count", "0"), ("--to", str(tmp_path / "train.tsv"))):
        with pytest.raises(SystemExit):
            main(["invent", *map(str, files), option, value])
    assert "is read; another file is needed" in capsys.readouterr().err
