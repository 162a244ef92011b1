"""Shows a whole life: starts a server on free ports, calls it, streams, reads its metrics, stops it.

Run as `python -m deploy.demo` from the root of the repository. It ends only the server that it started.
"""

import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from chairlift.v1 import seq2seq_pb2 as pb
from chairlift.v1.seq2seq_pb2_grpc import Seq2SeqServiceStub

WORDS = ["chairlift", "snow", "mountain", "powder"]
STREAMED = "avalanche"
SHOWN = re.compile(r"chairlift_\w+_(total|count|sum)[{ ]")
READY_SECONDS = 60
STOP_SECONDS = 60
CALL_SECONDS = 10


@contextmanager
def running_server() -> Iterator[dict[str, str]]:
    """A server of our own; yields its `ready` log line, which holds the addresses `listen` and `http`."""
    command = [sys.executable, "-m", "service", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    say(" ".join(["python", *command[1:]]))
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield ready_line(server)
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    say(f"stopped with exit status {server.returncode}")


def ready_line(server: subprocess.Popen[str]) -> dict[str, str]:
    """Reads the server's log until it serves, then leaves a thread to empty it, so the pipe never fills."""
    assert server.stderr
    watchdog = threading.Timer(READY_SECONDS, server.kill)
    watchdog.start()
    log = []
    try:
        for line in server.stderr:
            log.append(line)
            if '"ready"' in line:
                threading.Thread(target=server.stderr.read, daemon=True).start()
                return json.loads(line)
    finally:
        watchdog.cancel()
    sys.exit("the server did not become ready:\n" + "".join(log))


def say(text: str) -> None:
    print(f"\n--- {text}", flush=True)


def main() -> None:
    with running_server() as ready, grpc.insecure_channel(ready["listen"]) as channel:
        stub = Seq2SeqServiceStub(channel)

        say(f"Generate, {len(WORDS)} inputs in one call to {ready['listen']}")
        answer = stub.Generate(pb.GenerateRequest(inputs=WORDS), timeout=CALL_SECONDS)
        print(f"model {answer.model.name}, version {answer.model.version}")
        for word, result in zip(WORDS, answer.results, strict=True):
            best = result.generation.hypotheses[0]
            print(f"  {word:12} {best.text:40} {best.score:8.3f}")

        say(f"GenerateStream of {STREAMED!r}: tokens as they are decided")
        for event in stub.GenerateStream(pb.GenerateStreamRequest(input=STREAMED), timeout=CALL_SECONDS):
            if event.HasField("tokens"):
                print(f"  {event.tokens.index:2}  {event.tokens.text.strip()}", flush=True)

        say(f"metrics at http://{ready['http']}/metrics (totals and counts that are not zero)")
        with urllib.request.urlopen(f"http://{ready['http']}/metrics", timeout=CALL_SECONDS) as page:
            for line in page.read().decode().splitlines():
                if SHOWN.match(line) and float(line.split()[-1]):
                    print(f"  {line}")

        say("SIGTERM: the server drains")


if __name__ == "__main__":
    main()
