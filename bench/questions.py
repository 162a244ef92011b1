"""What is asked: words from a file, or made up of syllables; the same ones every time.

Knows of the service only how long a word may be.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bench.answers import Answers, Question

SEED = 20
WORDS, LISTS, LONG_WORDS = 512, 128, 32
LIST_WORDS = 32
SHORT_LETTERS, LONG_LETTERS = 8, 25

# Syllables: how they begin, what is in the middle, how they end.
ONSETS: list[str] = re.findall(
    r"\w+", "b br ch d dr f fl g gr h j k kl l m n p pr qu r s sh sk sl st t th tr v w z"
)
NUCLEI: list[str] = re.findall(r"\w+", "a ai au e ea ee i ie o oa oo ou u y")
CODAS: list[str] = ["", "", "", *re.findall(r"\w+", "ck l ld ll m n nd ng nt r rd rn s ss st t x")]


@dataclass(frozen=True)
class Material:
    """Questions whose answers are known."""

    words: list[str]
    questions: list[Question]  # of one word each
    lists: list[Question]  # of LIST_WORDS each
    short: list[Question]
    long: list[Question]


async def prepare(answers: Answers, words: list[str], max_letters: int) -> Material:
    """Chooses among words, made-up ones where there are none, and learns their answers.

    Raises ValueError where none of them suits, AioRpcError where the server refuses one.
    """
    random = Random(SEED)
    usable = [word for word in words or [invent(random) for _ in range(WORDS)] if len(word) <= max_letters]
    if not any(len(word) <= SHORT_LETTERS for word in usable):
        raise ValueError(f"no words of at most {min(SHORT_LETTERS, max_letters)} letters to ask")
    chosen = sorted(set(random.choices(usable, k=WORDS)))
    long = [invent_long(random, min(LONG_LETTERS, max_letters)) for _ in range(LONG_WORDS)]
    await answers.learn([*chosen, *long])
    return Material(
        words=chosen,
        questions=[answers.question(word) for word in chosen],
        lists=[answers.question(*random.choices(chosen, k=LIST_WORDS)) for _ in range(LISTS)],
        short=[answers.question(word) for word in chosen if len(word) <= SHORT_LETTERS],
        long=[answers.question(word) for word in long],
    )


def read_words(path: Path) -> list[str]:
    """The words of a file, each once: one a line, or the first column of a tab-separated one."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(word for line in lines if (word := line.partition("\t")[0].strip())))


def invent(random: Random) -> str:
    """A word of one to three syllables that could be English: between seven and eight letters."""
    return "".join(_syllable(random) for _ in range(random.choice((1, 2, 2, 2, 3))))


def invent_long(random: Random, letters: int) -> str:
    """A word of exactly so many letters."""
    word = ""
    while len(word) < letters:
        word += _syllable(random)
    return word[:letters]


def _syllable(random: Random) -> str:
    return random.choice(ONSETS) + random.choice(NUCLEI) + random.choice(CODAS)
