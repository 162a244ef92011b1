"""Does a served bundle answer as its network does? `python -m bench.agreement RUN BUNDLE --words FILE`.

Starts a server of its own with nothing but the bundle, asks it for every word, many at a time, and compares
the tokens with PyTorch's greedy ones from the run that the bundle was exported from. Exit status 1 where any
differ.

The one part of the bench that knows how models are made: it needs torch.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.servers import running
from bench.words import read_words
from bundle.reader import read_bundle
from chairlift import AsyncClient, Generation
from chairlift.bulk import answers
from training.checkpoint import Checkpoint, load_checkpoint
from training.evaluate import answer

WORDS_IN_A_CALL = 64
PATIENCE_SECONDS = 600  # with a slow machine
SHOWN = 10  # differences that are printed


def main(arguments: Sequence[str]) -> int:
    """Compares a profile, or each. Returns the exit status."""
    options = _parser().parse_args(arguments)
    bundle, checkpoint = read_bundle(options.bundle), load_checkpoint(options.run / "best.safetensors")
    source, limits = bundle.source, bundle.manifest.limits
    words = [
        word
        for word in read_words(options.words)
        if 0 < len(source.encode(word)) <= limits.max_source_length and word.isprintable()
    ]
    expected = _expected(checkpoint, words)
    wrong = 0
    for profile in options.profile or [profile.name for profile in bundle.manifest.profiles]:
        with _server(options.bundle, profile) as address:
            found = asyncio.run(_served(address, words))
        differing = [i for i, tokens in enumerate(found) if tokens != expected[i]]
        print(
            f"{options.bundle} {profile}: {len(words):,} words, {len(differing):,} with other tokens",
            flush=True,
        )
        for index in differing[:SHOWN]:
            print(f"  {words[index]}: served {found[index]}, PyTorch {expected[index]}")
        wrong += len(differing)
    return 1 if wrong else 0


def _expected(checkpoint: Checkpoint, words: Sequence[str]) -> list[list[int]]:
    """PyTorch's greedy tokens of each word, `<E>` left out."""
    source, _ = checkpoint.texts()
    longest = checkpoint.recipe.limits.max_target_length
    found = answer(checkpoint.model(), [source.encode(word) for word in words], longest)
    return [[token for token in tokens if token] for tokens, _ in found]


@contextmanager
def _server(bundle: Path, profile: str) -> Iterator[str]:
    """The address of a server with this bundle alone."""
    with tempfile.TemporaryDirectory() as repository:
        shutil.copytree(bundle, Path(repository, bundle.resolve().parent.name, bundle.resolve().name))
        arguments = ["--models", repository, "--profile", profile, "--device", "cpu"]
        arguments += ["--max-request-seconds", str(PATIENCE_SECONDS)]
        with running("service", *arguments, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0") as server:
            yield server.listen


async def _served(address: str, words: Sequence[str]) -> list[list[int]]:
    """The server's tokens for each word; none where it has no answer."""

    async def groups() -> AsyncIterator[list[str]]:
        for start in range(0, len(words), WORDS_IN_A_CALL):
            yield list(words[start : start + WORDS_IN_A_CALL])

    found: list[list[int]] = []
    async with AsyncClient(address) as client:
        call = partial(client.generate, timeout_seconds=PATIENCE_SECONDS)
        async for group in answers(groups(), call):
            found += [list(got.token_ids) if isinstance(got, Generation) else [] for _, got in group]
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.agreement", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="a run folder of python -m training")
    parser.add_argument("bundle", type=Path, help="what was exported from it: models/NAME/VERSION")
    parser.add_argument(
        "--words", type=Path, required=True, help="inputs, one a line, or a table's first column"
    )
    parser.add_argument("--profile", action="append", help="default: all that the bundle has")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
