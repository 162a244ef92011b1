"""Shows a whole life: starts a server on free ports, calls it, streams, reads its metrics, stops it.

Run as `python -m deploy.demo` from the root of the repository. It ends only the server that it started.
"""

import re
import urllib.request

import grpc

from bench.servers import running
from chairlift.v1 import seq2seq_pb2 as pb
from chairlift.v1.seq2seq_pb2_grpc import Seq2SeqServiceStub

WORDS = ["chairlift", "snow", "mountain", "powder"]
STREAMED = "avalanche"
SHOWN = re.compile(r"chairlift_\w+_(total|count|sum)[{ ]")
CALL_SECONDS = 10


def say(text: str) -> None:
    print(f"\n--- {text}", flush=True)


def main() -> None:
    addresses = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    say(" ".join(["python -m service", *addresses]))
    with running("service", *addresses) as server, grpc.insecure_channel(server.listen) as channel:
        stub = Seq2SeqServiceStub(channel)

        say(f"Generate, {len(WORDS)} inputs in one call to {server.listen}")
        answer = stub.Generate(pb.GenerateRequest(inputs=WORDS), timeout=CALL_SECONDS)
        print(f"model {answer.model.name}, version {answer.model.version}")
        for word, result in zip(WORDS, answer.results, strict=True):
            best = result.generation.hypotheses[0]
            print(f"  {word:12} {best.text:40} {best.score:8.3f}")

        say(f"GenerateStream of {STREAMED!r}: tokens as they are decided")
        for event in stub.GenerateStream(pb.GenerateStreamRequest(input=STREAMED), timeout=CALL_SECONDS):
            if event.HasField("tokens"):
                print(f"  {event.tokens.index:2}  {event.tokens.text.strip()}", flush=True)

        say(f"metrics at http://{server.http}/metrics (totals and counts that are not zero)")
        with urllib.request.urlopen(f"http://{server.http}/metrics", timeout=CALL_SECONDS) as page:
            for line in page.read().decode().splitlines():
                if SHOWN.match(line) and float(line.split()[-1]):
                    print(f"  {line}")

        say("SIGTERM: the server drains")
    say("it has stopped")


if __name__ == "__main__":
    main()
