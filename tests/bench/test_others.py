"""Servers of others are left out where they are missing, and their answers are checked where they are not."""

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bench import others, parts
from bench.batch_decoder import BatchDecoder
from bench.bench import Bench
from bench.others import MOSEC, PYTRITON, Other, ask, compare, serving, version
from bundle.reader import read_bundle


class Shouting(BaseHTTPRequestHandler):
    """Answers each word in capitals, as Mosec or as PyTriton does."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == MOSEC.path:
            said = asked.upper()
        else:
            assert self.path == PYTRITON.path
            (tensor,) = asked["inputs"]
            assert (tensor["name"], tensor["shape"], tensor["datatype"]) == ("word", [1, 1], "BYTES")
            said = {"outputs": [{"data": [word.upper() for word in tensor["data"]]}]}
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def place() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Shouting) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("other", [MOSEC, PYTRITON], ids=lambda other: other.name)
def test_answers_are_compared(other: Other, place: str) -> None:
    url = place + other.path
    assert ask(other, url, "snow") == "SNOW"
    compare(other, url, {"snow": "SNOW", "ice": "ICE"})
    with pytest.raises(ValueError, match=f"{other.name} says 'ICE' where Chairlift says 'EIS'"):
        compare(other, url, {"snow": "SNOW", "ice": "EIS"})


@pytest.mark.parametrize("name", ["mosec", "pytriton"])
def test_where_it_is_missing_a_line_says_so(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(others, "version", lambda *_: "")
    bench = Bench(Path("nowhere"), "", None, 1.0)
    parts.PARTS[name](bench)
    assert not bench.figures
    assert f"bench: {name}: it or h2load is not installed, left out" in capsys.readouterr().err


def test_a_version_is_that_of_the_interpreter_asked() -> None:
    assert version(replace(MOSEC, package="pytest"), sys.executable) == pytest.__version__
    assert version(replace(MOSEC, package="no-such-package"), sys.executable) == ""


def test_a_server_that_ends_before_it_answers_is_an_error(tiny_bundle: Path) -> None:
    gone = replace(MOSEC, name="gone")  # there is no bench/gone_server.py
    with (
        pytest.raises(TimeoutError, match="did not answer"),
        serving(gone, sys.executable, tiny_bundle, 1, "a"),
    ):
        raise AssertionError("it was served")


def golden(folder: Path) -> dict[str, str]:
    """Words with PyTorch's answers."""
    bundle = read_bundle(folder)
    end = bundle.manifest.vocabulary.end_id
    return {
        case.text: bundle.target.decode([token for token in case.target_ids if token != end])
        for case in bundle.golden.cases
    }


def test_a_batch_has_the_answers_of_its_words(tiny_bundle: Path) -> None:
    right = golden(tiny_bundle)
    decoder = BatchDecoder(tiny_bundle)
    assert decoder.answer(list(right)) == list(right.values())
    assert [decoder.answer([word]) for word in reversed(right)] == [
        [text] for text in reversed(right.values())
    ]


@pytest.mark.parametrize("other", [MOSEC, PYTRITON], ids=lambda other: other.name)
def test_the_bundle_answers_behind_it(other: Other, tiny_bundle: Path) -> None:
    if not version(other, sys.executable):
        pytest.skip(f"{other.package} is not installed")
    right = golden(tiny_bundle)
    with serving(other, sys.executable, tiny_bundle, 1, next(iter(right))) as url:
        compare(other, url, right)
