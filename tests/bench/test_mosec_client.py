"""Mosec is left out where it is missing, and its answers are checked where it is not."""

import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bench.mosec_client import ask, compare, mosec_figures


class Shouting(BaseHTTPRequestHandler):
    """Answers each word in capitals."""

    def do_POST(self) -> None:
        word = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps(word.upper()).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Shouting) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/inference"
        server.shutdown()
        thread.join()


def test_answers_are_compared(url: str) -> None:
    assert ask(url, "snow") == "SNOW"
    compare(url, {"snow": "SNOW", "ice": "ICE"})
    with pytest.raises(ValueError, match="'ICE' where Chairlift says 'EIS'"):
        compare(url, {"snow": "SNOW", "ice": "EIS"})


def test_where_it_is_missing_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert mosec_figures(Path("nowhere"), 1, {"a": "A"}, 64, 1.0) == {}
    assert "left out" in capsys.readouterr().err
