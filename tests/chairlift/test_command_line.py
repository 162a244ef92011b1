"""`python -m chairlift` as people run it: a process, its two outputs and its exit status."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chairlift.v1 import seq2seq_pb2 as pb
from tests.chairlift import conftest

ROOT = Path(__file__).parents[2]


def start(server: str, *arguments: str | bytes, **options) -> subprocess.Popen[bytes]:
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CHAIRLIFT_SERVER": server, "TERM": "xterm"}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what ignores it hands that down
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "chairlift", *arguments], env=environment, cwd=ROOT, **streams
        )
    finally:
        signal.signal(signal.SIGINT, before)


def run(server: str, *arguments: str | bytes, feed: bytes | None = None) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    stdin = subprocess.DEVNULL if feed is None else subprocess.PIPE
    with start(server, *arguments, stdin=stdin) as process:
        out, errors = process.communicate(feed, timeout=60)
    return process.returncode, out.decode(), errors.decode()


def test_words(server):
    assert run(server.address, "snow", "ski lift") == (0, "snow\tw o n s\nski lift\tt f i l   i k s\n", "")


def test_bad_inputs_are_reported_and_the_rest_is_printed(server):
    status, out, errors = run(server.address, "ab", "BAD", b"\xff", "cd")
    assert (status, out) == (1, "ab\tb a\ncd\td c\n")
    assert errors == "chairlift: 'BAD': bad\nchairlift: '\\udcff': not UTF-8 text\n"


def test_no_call_has_more_inputs_than_the_server_allows(server):
    server.servicer.max_inputs = 3
    words = [f"w{number}" for number in range(8)]
    assert run(server.address, "-", feed="".join(f"{word}\n" for word in words).encode())[0] == 0
    assert [word for word in words if server.servicer.calls[word]] == ["w0", "w3", "w6"]  # each call's first


def test_only_word_that_is_bad(server):
    assert run(server.address, "BAD") == (1, "", "chairlift: 'BAD': bad\n")


def test_options_reach_the_server(server):
    assert run(server.address, "--model", "backwards", "--max-length", "1", "snow")[1] == "snow\tw\n"
    assert run(server.address, "--model", "other", "snow") == (
        2,
        "",
        "chairlift: NOT_FOUND: no model other\n",
    )
    assert run("127.0.0.1:9", "--server", server.address, "snow")[0] == 0


def test_every_option_of_decoding_reaches_the_server(server, tmp_path):
    lexicon = tmp_path / "lexicon"
    lexicon.write_text("w o\n\nw\n")
    flags = (
        "--max-length 4 --min-length 1 --beam 3 --n-best 2 --length-penalty 0.7 --cascade-margin 0.5 "
        "--cascade --seed 9 --temperature 0.5 --top-k 6 --top-p 0.9 --prefix w --allow w --allow o "
        "--ban <unk> --bias <E>=-1.5 --bias ==2 --no-repeat-ngram 3 --loop-repeats 4 --alternatives 5 "
        "--log-probabilities --alignments --partial "
        f"--json --sample --priority -3 --lexicon {lexicon}"
    )
    assert run(server.address, *flags.split(), "snow")[0] == 0
    options = server.servicer.request.options
    assert {field.name for field, _ in options.ListFields()} == set(options.DESCRIPTOR.fields_by_name)
    assert (list(options.allowed_tokens), list(options.lexicon)) == (["w", "o"], ["w o", "w"])
    assert [(bias.token, bias.bias) for bias in options.biases] == [("<E>", -1.5), ("=", 2)]
    assert (options.beam_size, options.cascade_margin, options.sampling.seed) == (3, 0.5, 9)
    assert server.servicer.request.priority == -3
    assert run(server.address, "snow")[0] == 0
    assert not server.servicer.request.options.ListFields()
    assert run(server.address, "--seed", "0", "snow")[0] == 0
    assert server.servicer.request.options.HasField("sampling")


def test_every_hypothesis_has_a_line(server):
    assert run(server.address, "--n-best", "2", "ab") == (0, "ab\tb a\nab\tb\n", "")
    flags = ("--json", "--n-best", "2", "--alternatives", "1", "--log-probabilities")
    answer = json.loads(run(server.address, *flags, "ab")[1])
    assert (answer["text"], answer["log_probabilities"]) == ("b a", [-0.5, -0.5])
    [other] = answer["others"]
    assert (other["text"], other["normalised_score"]) == ("b", -0.125)
    assert other["alternatives"] == [{"token_ids": [7], "log_probabilities": [-0.25]}]


def test_alignments_are_a_table_below_the_answer(server):
    table = "        a   b\n  b    25  75\n  a    75  25\n"
    end = "  <E>  50  50\n"
    assert run(server.address, "--alignments", "ab") == (0, f"ab\tb a\n{table}{end}", "")
    assert run(server.address, "--alignments", "--stream", "ab") == (0, f"ab\tb a\n{table}{end}", "")
    cut = run(server.address, "--alignments", "--max-length", "1", "a b?")[1]
    assert cut.splitlines()[1:] == ["      a       b   ?", "  ?   8   8   8  75"]
    answer = json.loads(run(server.address, "--alignments", "--json", "ab")[1])
    assert answer["alignments"] == [[0.25, 0.75], [0.75, 0.25], [0.5, 0.5]]
    assert "alignments" not in json.loads(run(server.address, "--json", "ab")[1])


def test_scores_of_what_it_printed(server):
    answers = run(server.address, "snow", "ab")[1].encode()
    scored = run(server.address, "--score", "-", feed=answers + b"none\nx\tBAD\n")
    assert scored[:2] == (1, "snow\tw o n s\t-2.5000\nab\tb a\t-1.5000\n")
    assert scored[2].splitlines() == [
        "chairlift: 'none': no tab and target after the input",
        "chairlift: 'x\\tBAD': bad",
    ]
    score = json.loads(run(server.address, "--score", "--json", "ab\tb a\tignored")[1])
    assert (score["input"], score["target"], score["score"]) == ("ab", "b a", -1.5)


def test_timeout(server):
    status, out, errors = run(server.address, "--timeout", "0.2", "SLOW")
    assert (status, out) == (2, "")
    assert errors.startswith("chairlift: DEADLINE_EXCEEDED: ")


def test_server_that_cannot_be_reached():
    with socket.socket() as reserved:  # bound but not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        status, out, errors = run(address, "snow")
    assert (status, out) == (2, "")
    assert errors.startswith(f"chairlift: no answer from {address}: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-", "snow"],
        ["--list", "snow"],
        ["--list", "--model", "backwards"],
        ["--list", "--beam", "5"],
        ["--list", "--priority", "3"],
        ["--file", "x", "snow"],
        ["--timeout", "0", "snow"],
        ["--version", "-1", "snow"],
        ["--max-length", "2147483648", "snow"],
        ["--seed", "18446744073709551616", "snow"],
        ["--bias", "w", "snow"],
        ["--lexicon", "/nowhere", "snow"],
        ["--score", "--beam", "3", "snow"],
        ["--score", "--stream", "snow"],
        ["--alternatives", "3", "snow"],
        ["--temperature", "0", "snow"],
        ["--top-p", "0", "snow"],
        ["--priority", "11", "snow"],
        ["--priority", "99999999999", "snow"],
        ["--bias", "w=1", "--bias", "w=2", "snow"],
        ["--lexicon", "/dev/null", "snow"],
        ["--server", "http://127.0.0.1:9", "snow"],
        ["--server", "127.0.0.1", "snow"],
        ["--server", "127.0.0.1:99999", "snow"],
    ],
)
def test_wrong_usage(arguments):
    status, out, errors = run("127.0.0.1:9", *arguments)
    assert (status, out) == (2, "")
    assert errors.startswith("usage: chairlift")


def test_file_in_bulk(server, tmp_path):
    words = [f"word{number}" for number in range(3000)]
    path = tmp_path / "words.txt"
    path.write_text("\n\n".join(words))
    status, out, errors = run(server.address, "--file", str(path))
    assert (status, errors) == (0, "")
    assert out.splitlines() == [f"{word}\t{' '.join(reversed(word))}" for word in words]
    assert server.servicer.calls.total() < len(words) / 32
    assert server.servicer.most_open_calls <= 16


def test_file_that_is_not_there(tmp_path):
    status, out, errors = run("127.0.0.1:9", "--file", str(tmp_path / "none"))
    assert (status, out) == (2, "")
    assert "No such file" in errors
    assert errors.count("\n") == 1


def test_bulk_outlasts_a_full_server(server):
    assert run(server.address, "-", feed=b"BUSY\n") == (0, "BUSY\tY S U B\n", "")
    assert server.servicer.calls["BUSY"] == 5


def test_pipe_is_answered_line_by_line(server):
    with start(server.address, "-", stdin=subprocess.PIPE) as process:
        process.stdin.write(b"ab\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ab\tb a\n"  # while the pipe is still open
        assert process.communicate(b"cd", timeout=60) == (b"cd\td c\n", b"")
    assert process.returncode == 0


def test_json(server):
    status, out, _ = run(server.address, "--json", "é", "BAD")
    answer, bad = map(json.loads, out.splitlines())
    assert status == 1
    assert (answer["input"], answer["text"], answer["token_ids"], answer["score"]) == ("é", "é", [233], -0.5)
    assert (answer["finish_reason"], answer["model"]["version"]) == ("eos", 3)
    error = {"code": "INVALID_ARGUMENT", "message": "bad", "field": "inputs[1]"}
    assert bad == {"input": "BAD", "error": error}


def test_stream(server):
    status, out, errors = run(server.address, "--stream", "snow", "BAD", "ab")
    assert (status, out, errors) == (1, "snow\tw o n s\nab\tb a\n", "chairlift: 'BAD': bad\n")


def test_stream_shows_every_hypothesis(server):
    assert run(server.address, "--stream", "--n-best", "2", "ab") == (0, "ab\tb a\nab\tb\n", "")


def test_byte_order_marks_are_no_input(server, tmp_path):
    mark, lexicon = b"\xef\xbb\xbf", tmp_path / "lexicon.txt"
    assert (
        run(server.address, "-", feed=mark + b"ab\n" + mark + b"cd\n")[1] == "ab\tb a\n\ufeffcd\td c \ufeff\n"
    )
    lexicon.write_bytes(mark + b"b a\n")
    assert run(server.address, "--lexicon", str(lexicon), "ab")[0] == 0
    assert list(server.servicer.request.options.lexicon) == ["b a"]


def test_a_long_input_harms_no_other(server):
    status, out, errors = run(server.address, "-", feed=b"ab\n" + b"x" * 1048570 + b"\ncd\n")
    assert (status, out) == (1, "ab\tb a\ncd\td c\n")
    assert "1048576 are allowed" in errors and errors.count("\n") == 1


def test_servers_may_be_named_with_a_scheme(server):
    assert run(server.address, "--server", f"ipv4:{server.address}", "ab")[0] == 0


def test_stream_shows_tokens_before_the_end(server):
    with start(server.address, "--stream", "WAIT") as process:
        assert process.stdout.read(6) == b"WAIT\tT"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == (b"\n", b"")
    assert process.returncode == 130
    assert server.servicer.hung_up.wait(10)


def test_stream_that_breaks(server):
    status, out, errors = run(server.address, "--stream", "BREAK", "snow")
    assert (status, out, errors) == (2, "BREAK\tK\n", "chairlift: INTERNAL: error 7\n")


def test_stream_as_json(server):
    *chunks, answer = map(json.loads, run(server.address, "--stream", "--json", "ab")[1].splitlines())
    assert [chunk["chunk"]["text"] for chunk in chunks] == ["b", " a"]
    assert answer["text"] == "b a"


def test_list(server):
    assert run(server.address, "--list")[1].splitlines() == [
        "backwards*  3  ready  fp32  cpu  Spells backwards",
        "  WER, on test: 1.50 % greedy",
    ]
    model = json.loads(run(server.address, "--list", "--json")[1])
    assert model["reference"]["name"] == "backwards"


def test_list_says_how_good_and_how_fast_a_model_is(server, monkeypatch):
    model = conftest.model()
    model.card.scores.clear()
    for decoding, value in (("greedy", 23.5), ("beam 5", 23.25)):
        interval = pb.Interval(low=value - 0.75, high=value + 1)
        score = pb.Score(dataset="test", metric="WER", value=value, decoding=decoding, interval_95=interval)
        model.card.scores.append(score)
    speed = pb.Speed(machine="a fast one", runtime="ONNX Runtime 9", threads=1, source_length=8)
    for profile in ("int8", "fp32"):
        for rows, step in ((1, 60.0), (32, 500.0)):
            speed.timings.add(profile=profile, rows=rows, source_microseconds=9.0, step_microseconds=step)
    model.card.speed.CopyFrom(speed)
    monkeypatch.setattr(conftest, "model", lambda: model)
    listed, *more = run(server.address, "--list")[1].splitlines()
    assert listed.startswith("backwards*")
    assert more == [
        "  WER, on test: 23.50 % (22.75 to 24.50) greedy; 23.25 % (22.50 to 24.25) beam 5",
        "  speed of the fp32 graphs, ONNX Runtime 9, 1 thread of a fast one, 8 tokens: "
        "1 at a time 9 µs a source, 60 µs a step; 32 at a time 9 µs a source, 500 µs a step",
    ]
    card = json.loads(run(server.address, "--list", "--json")[1])["card"]
    assert card["scores"][0]["interval_95"] == [22.75, 24.5]
    assert len(card["speed"]["timings"]) == 4


@pytest.mark.parametrize("words", [["SLOW"], ["-"]])
def test_interrupt_is_quiet(server, words):
    with start(server.address, *words, stdin=subprocess.PIPE) as process:
        if words == ["-"]:
            process.stdin.write(b"SLOW\n")
            process.stdin.flush()
        assert server.servicer.waiting.wait(10)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert (process.stdout.read(), process.stderr.read()) == (b"", b"")


def test_closed_pipe_is_quiet(server):
    reading, writing = os.pipe()
    os.close(reading)
    with start(server.address, "snow", stdout=writing) as process:
        os.close(writing)
        assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 141


@pytest.mark.parametrize("arguments", [["-"], ["snow"]])
def test_progress_is_for_bulk_input_and_terminals_only(server, arguments):
    terminal, stderr = pty.openpty()
    with start(server.address, *arguments, stdin=subprocess.PIPE, stderr=stderr) as process:
        os.close(stderr)
        out, _ = process.communicate(b"snow\n", timeout=60)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal says that the other side is gone
        while block := os.read(terminal, 4096):
            shown += block
    os.close(terminal)
    assert out == b"snow\tw o n s\n"
    assert (b"inputs" in shown) == (arguments == ["-"])
