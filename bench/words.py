"""Words to ask for: from a file, or made up of syllables; the same ones every time."""

import re
from pathlib import Path
from random import Random

SEED = 20

# Syllables: how they begin, what is in the middle, how they end.
ONSETS: list[str] = re.findall(
    r"\w+", "b br ch d dr f fl g gr h j k kl l m n p pr qu r s sh sk sl st t th tr v w z"
)
NUCLEI: list[str] = re.findall(r"\w+", "a ai au e ea ee i ie o oa oo ou u y")
CODAS: list[str] = ["", "", "", *re.findall(r"\w+", "ck l ld ll m n nd ng nt r rd rn s ss st t x")]


def choose(path: Path | None, count: int, max_letters: int) -> list[str]:
    """So many different words of a file, or made-up ones, in an order that the seed decides.

    Fewer where the file has fewer. Raises ValueError where none is short enough.
    """
    random = Random(SEED)
    known = read_words(path) if path else [invent(random) for _ in range(2 * count)]
    usable = list(dict.fromkeys(word for word in known if len(word) <= max_letters))
    if not usable:
        raise ValueError(f"no words of at most {max_letters} letters to ask")
    random.shuffle(usable)
    return usable[:count]


def read_words(path: Path) -> list[str]:
    """The words of a file, each once: one a line, or the first column of a tab-separated one."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(word for line in lines if (word := line.partition("\t")[0].strip())))


def invent(random: Random) -> str:
    """A word of one to three syllables that could be English: in the mean nearly nine letters."""
    return "".join(_syllable(random) for _ in range(random.choice((1, 2, 2, 2, 3))))


def _syllable(random: Random) -> str:
    return random.choice(ONSETS) + random.choice(NUCLEI) + random.choice(CODAS)
