"""Does a served bundle answer as its network does? `python -m bench.agreement RUN BUNDLE --words FILE`.

Starts a server of its own with nothing but the bundle, asks it for every word, many at a time, and compares
the tokens with PyTorch's, from the run that the bundle was exported from: greedy ones, or with `--beam N` all
N hypotheses of a beam, in their order. Exit status 1 where any differ.

Knows how models are made, and needs torch for it.
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
from training.beam import BeamOptions
from training.checkpoint import Checkpoint, load_checkpoint
from training.evaluate import answer, search

WORDS_IN_A_CALL = 64
PATIENCE_SECONDS = 600  # with a slow machine
SHOWN = 10  # differences that are printed

Answer = list[tuple[list[int], float]]  # of each hypothesis: the tokens without `<E>`, and their score


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
    expected = _expected(checkpoint, words, options.beam)
    wrong = 0
    for profile in options.profile or [profile.name for profile in bundle.manifest.profiles]:
        with _server(options.bundle, profile) as address:
            found = asyncio.run(_served(address, words, options.beam))
        pairs = list(zip(words, found, expected, strict=True))
        differing = [pair for pair in pairs if _tokens(pair[1]) != _tokens(pair[2])]
        apart = max((_apart(served, true) for _, served, true in pairs), default=0.0)
        print(
            f"{options.bundle} {profile}: {len(words):,} words, {len(differing):,} with other tokens; "
            f"scores of equal ones at most {apart:.1e} apart",
            flush=True,
        )
        for word, served, true in differing[:SHOWN]:
            print(f"  {word}: served {_tokens(served)}, PyTorch {_tokens(true)}")
        wrong += len(differing)
    return 1 if wrong else 0


def _tokens(answer: Answer) -> list[list[int]]:
    return [tokens for tokens, _ in answer]


def _apart(served: Answer, true: Answer) -> float:
    """The largest difference of a score, in natural-log units, where the tokens are equal."""
    pairs = zip(served, true, strict=False)
    return max((abs(mine - theirs) for (a, mine), (b, theirs) in pairs if a == b), default=0.0)


def _expected(checkpoint: Checkpoint, words: Sequence[str], beam: int) -> list[Answer]:
    """PyTorch's answer to each word."""
    source, _ = checkpoint.texts()
    longest = checkpoint.recipe.limits.max_target_length
    model, sources = checkpoint.model(), [source.encode(word) for word in words]
    if beam == 1:
        found = [[(ids, sum(scores))] for ids, scores in answer(model, sources, longest)]
    else:
        options = BeamOptions(beam, beam, max_length=longest)
        found = [[(list(h.ids), h.score) for h in best] for best in search([model], sources, options)]
    return [[([token for token in ids if token], score) for ids, score in best] for best in found]


@contextmanager
def _server(bundle: Path, profile: str) -> Iterator[str]:
    """The address of a server with this bundle alone."""
    with tempfile.TemporaryDirectory() as repository:
        shutil.copytree(bundle, Path(repository, bundle.resolve().parent.name, bundle.resolve().name))
        arguments = ["--models", repository, "--profile", profile, "--device", "cpu"]
        arguments += ["--max-request-seconds", str(PATIENCE_SECONDS)]
        with running("service", *arguments, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0") as server:
            yield server.listen


async def _served(address: str, words: Sequence[str], beam: int) -> list[Answer]:
    """The server's answer to each word; an empty one where it has none."""

    async def groups() -> AsyncIterator[list[str]]:
        for start in range(0, len(words), WORDS_IN_A_CALL):
            yield list(words[start : start + WORDS_IN_A_CALL])

    found: list[Answer] = []
    async with AsyncClient(address) as client:
        call = partial(client.generate, beam_size=beam, n_best=beam, timeout_seconds=PATIENCE_SECONDS)
        async for group in answers(groups(), call):
            for _, got in group:
                best = got.hypotheses if isinstance(got, Generation) else ()
                found.append([(list(hypothesis.token_ids), hypothesis.score) for hypothesis in best])
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.agreement", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="a run folder of python -m training")
    parser.add_argument("bundle", type=Path, help="what was exported from it: models/NAME/VERSION")
    parser.add_argument(
        "--words", type=Path, required=True, help="inputs, one a line, or a table's first column"
    )
    parser.add_argument("--profile", action="append", help="default: all that the bundle has")
    parser.add_argument("--beam", type=int, default=1, help="hypotheses of a beam search (default: greedy)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
