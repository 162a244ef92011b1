"""What the command line may say, and what it comes to. Asks no server."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import cast

from chairlift import decoding
from chairlift.decoding import Decoding
from chairlift.errors import MAX_TIMEOUT_SECONDS

MAX_COUNT = 2**31 - 1
MAX_SEED = 2**64 - 1
MAX_PRIORITY = 10
MAX_PORT = 65_535


def parse(arguments: list[str], server: str) -> argparse.Namespace:
    """The options, `decoding` among them. Exits with status 2 where they make no sense."""
    parser = argparse.ArgumentParser(
        prog="chairlift",
        description="Asks a Chairlift server, and prints one line an answer: the input, a tab, the answer.",
        epilog="Exit status: 0 all answered; 1 some input was bad, the rest is answered; 2 wrong usage, or a "
        "call failed.",
    )
    _add_calls(parser, server)
    _add_decoding(parser)
    options = parser.parse_args(arguments)
    if sum((bool(options.words), options.file is not None, options.list)) != 1:
        parser.error("give words, - or --file FILE or --list, and one of them alone")
    if "-" in options.words and len(options.words) > 1:
        parser.error("- stands alone: it reads every input from standard input")
    if not 0 < options.timeout <= MAX_TIMEOUT_SECONDS:
        parser.error(f"--timeout: more than 0 and at most {MAX_TIMEOUT_SECONDS} seconds are wanted")
    options.decoding = _decoding(options, parser)
    asked = (
        *(options.decoding, options.score, options.stream, options.confidence),
        *(options.model, options.version, options.priority),
    )
    if options.list and any(asked):
        parser.error("--list shows every model; of the other options it takes --json, --server and --timeout")
    if options.score and (options.decoding or options.stream):
        parser.error("--score takes no options of decoding: its targets leave nothing to decide")
    if options.confidence and (options.score or options.stream or options.json):
        parser.error(
            "--confidence is a column of answers: not with --score or --stream; --json has it anyway"
        )
    if (options.alternatives or options.log_probabilities) and not options.json:
        parser.error("--alternatives and --log-probabilities are shown with --json alone")
    return options


def _add_calls(parser: argparse.ArgumentParser, server: str) -> None:
    add = parser.add_argument
    add("words", metavar="WORD", nargs="*", help="an input; - reads lines from standard input")
    add(
        "--file",
        type=Path,
        metavar="FILE",
        help="read inputs from FILE, one a line; blank lines are left out",
    )
    add("--list", action="store_true", help="show the models, the default one with a star")
    add("--stream", action="store_true", help="show tokens as they arrive, one input at a time")
    add(
        "--score",
        action="store_true",
        help="inputs are INPUT<TAB>TARGET, as this program prints them; adds the target's log-probability",
    )
    add("--confidence", action="store_true", help="a third column: the probability that the answer is right")
    add("--json", action="store_true", help="print one JSON object a line")
    add(
        "--server",
        type=_server,
        default=server,
        metavar="HOST:PORT",
        help="%(default)s; CHAIRLIFT_SERVER sets the default",
    )
    add("--model", default="", metavar="NAME", help="default: the server's default model")
    add("--version", type=_count, default=0, metavar="N", help="default: the highest that is ready")
    add("--priority", type=_priority, default=0, metavar="N", help="-10 to 10; more is decoded first")
    add("--timeout", type=float, default=10.0, metavar="SECONDS", help="of one call; default: %(default)s")


def _add_decoding(parser: argparse.ArgumentParser) -> None:
    """A flag for each field of Decoding, under its name; a test holds them together."""
    add = parser.add_argument_group("decoding", "Greedy unless something here says otherwise.").add_argument
    add("--max-length", type=_count, metavar="N", help="most tokens of an answer")
    add("--min-length", type=_count, metavar="N", help="fewest tokens of an answer")
    add("--beam", dest="beam_size", type=_count, metavar="N", help="follow N hypotheses side by side")
    add("--n-best", type=_count, metavar="N", help="print up to N hypotheses, a line each, best first")
    add("--length-penalty", type=float, metavar="X", help="rank a beam by score / length**X")
    add("--cascade", action="store_true", help="use a beam only in doubt: the model's own cascade")
    add(
        "--cascade-margin",
        type=float,
        metavar="X",
        help="use the beam only where two tokens came closer than X in log-probability",
    )
    add("--sample", action="store_true", help="draw tokens instead of taking the best")
    add("--seed", type=_seed, metavar="N", help="draw by this seed; default: 0")
    add("--temperature", type=float, metavar="X", help="draw from a flatter or sharper distribution")
    add("--top-k", type=_count, metavar="N", help="draw from the N best tokens")
    add("--top-p", type=float, metavar="X", help="draw from the fewest tokens with this probability")
    add("--prefix", metavar="TEXT", help="begin the answer with this")
    add("--allow", dest="allowed_tokens", action="append", metavar="TOKEN", help="may come; others may not")
    add("--ban", dest="banned_tokens", action="append", metavar="TOKEN", help="may not come")
    add(
        "--bias",
        dest="biases",
        action="append",
        type=_bias,
        metavar="TOKEN=X",
        help="add X to a log-probability",
    )
    add("--lexicon", type=_lines, metavar="FILE", help="the only answers there may be, one a line")
    add("--no-repeat-ngram", type=_count, metavar="N", help="no N tokens come twice in the same order")
    add("--loop-repeats", type=_count, metavar="N", help="stop when the last tokens came N times in a row")
    add("--alternatives", type=_count, metavar="N", help="show the N best tokens of each position")
    add("--log-probabilities", action="store_true", help="show the log-probability of each token")
    add("--alignments", action="store_true", help="show how much each token looked at which, in percent")
    add(
        "--partial",
        dest="partial_on_deadline",
        action="store_true",
        help="when time is up, print the best so far",
    )


def _decoding(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Decoding:
    given = {name: getattr(options, name) for name in Decoding.__annotations__}
    if given["biases"]:
        given["biases"] = dict(given["biases"])
        if len(given["biases"]) < len(options.biases):
            parser.error("--bias: one a token is wanted")
    chosen = {name: value for name, value in given.items() if value is not None and value is not False}
    try:
        decoding.message(cast(Decoding, chosen))
    except ValueError as error:
        parser.error(str(error))
    return cast(Decoding, chosen)


def _count(text: str) -> int:
    """A number that the wire can hold."""
    return _whole(text, MAX_COUNT)


def _priority(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = MAX_PRIORITY + 1
    if abs(number) > MAX_PRIORITY:
        raise argparse.ArgumentTypeError(f"a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY} is wanted")
    return number


def _server(text: str) -> str:
    """HOST:PORT, or a name with a scheme of gRPC's, such as dns:///chairlift:50051 or unix:/run/chairlift."""
    if re.match(r"https?:", text):
        raise argparse.ArgumentTypeError("HOST:PORT is wanted, without http://")
    if re.match(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):", text):
        return text
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"HOST:PORT is wanted, with a port from 1 to {MAX_PORT}")
    return text


def _seed(text: str) -> int:
    return _whole(text, MAX_SEED)


def _whole(text: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise argparse.ArgumentTypeError(f"a whole number from 0 to {most} is wanted")
    return int(text)


def _bias(text: str) -> tuple[str, float]:
    token, found, value = text.rpartition("=")
    try:
        return token, float(value if found else "")
    except ValueError:
        raise argparse.ArgumentTypeError("TOKEN=NUMBER is wanted") from None


def _lines(path: str) -> list[str]:
    """The lines of a text file, blank ones left out."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"cannot be read: {error}") from error
    return [line for line in text.splitlines() if line.strip()]
