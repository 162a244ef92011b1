"""Command `python -m training invent`: words that nobody wrote, to be labelled and learnt.

Letters follow each other as in a list of words. After letters that were seen `total` times, and `kinds` of
others after them, the next one is drawn as if there were one letter less before it with probability
kinds / (total + kinds), and else as it was seen (Witten and Bell, 1991, method C).
"""

import argparse
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from training.arguments import output, refuse_to_overwrite, whole_number
from training.atomic import write_atomically
from training.data import DataError, read_words

START, END = "\0", "\1"  # no word has those
ORDER = 5  # letters, the one that is drawn among them
PATIENCE = 10_000  # draws in a row that give nothing new: a short list makes the same words again and again
MOST_WORDS = 10_000_000


class Letters:
    """What follows what in some words."""

    def __init__(self, words: Iterable[str], order: int = ORDER) -> None:
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._before = order - 1
        self._longest = 0
        for word in words:
            self._longest = max(self._longest, len(word))
            text = START * self._before + word + END
            for place in range(self._before, len(text)):
                for length in range(order):
                    counts[text[place - length : place]][text[place]] += 1
        self._next = {context: (list(found), list(found.values())) for context, found in counts.items()}

    def draw(self, chance: random.Random) -> str:
        """A word no longer than the longest; empty where it would be."""
        text = START * self._before
        while (letter := self._letter(text[len(text) - self._before :], chance)) != END:
            text += letter
            if len(text) - self._before > self._longest:
                return ""
        return text[self._before :]

    def _letter(self, context: str, chance: random.Random) -> str:
        while True:
            letters, counts = self._next.get(context, ([], []))
            if letters and (not context or chance.random() * (sum(counts) + len(letters)) >= len(letters)):
                return chance.choices(letters, counts)[0]
            context = context[1:]


def invent(words: Sequence[str], avoid: Collection[str], count: int, seed: int) -> list[str]:
    """`count` different words, or fewer where the list makes no more, none among `words` or `avoid`.

    Raises DataError where there are no words.
    """
    if not words:
        raise DataError("no words to make others of; one a line is wanted")
    letters, chance = Letters(words), random.Random(seed)
    known = {word.casefold() for word in (*words, *avoid)}
    found: list[str] = []
    idle = 0
    while len(found) < count and idle < PATIENCE:
        word = letters.draw(chance)
        idle += 1
        if word and word.casefold() not in known:
            known.add(word.casefold())
            found.append(word)
            idle = 0
    return found


def run_invent(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training invent",
        description="Makes words up, letter by letter, as those of a list are spelled.",
    )
    add = parser.add_argument
    add("--words", type=Path, required=True, metavar="FILE", help="words to spell like: the first column")
    add(
        "--avoid",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="words that must not come",
    )
    add(
        "--count",
        type=whole_number(1, MOST_WORDS),
        default=100_000,
        metavar="N",
        help="how many (default %(default)s)",
    )
    add("--seed", type=int, default=1, metavar="N", help="others of the same kind (default %(default)s)")
    add("--to", type=output, required=True, metavar="FILE", help="the file to write")
    options = parser.parse_args(arguments)
    refuse_to_overwrite(parser, "--to", options.to, [options.words, *options.avoid])
    avoid = [word for file in options.avoid for word in read_words(file)]
    found = invent(read_words(options.words), avoid, options.count, options.seed)
    write_atomically(options.to, "".join(f"{word}\n" for word in found).encode())
    print(f"{options.to}\t{len(found)} of {options.count} words")
    return 0
