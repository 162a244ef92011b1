"""Start, serve, drain: exit statuses, one clear line for what cannot start, nobody dropped on the way out."""

import asyncio
import json
import shutil
import socket
import subprocess
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from bundle.reader import read_bundle
from chairlift import AsyncClient, Client, Unavailable
from tests.fronts import FRONTS


@pytest.fixture(params=FRONTS)
def front(request) -> str:
    """Every test of this file, with either front."""
    return request.param


def test_answers_are_the_golden_ones(serve, tiny_bundle):
    server = serve().ready()
    cases = read_bundle(tiny_bundle).golden.cases
    with Client(server.listen) as client:
        answers = client.generate([case.text for case in cases])
    ends = [[i for i in case.target_ids if i != 0] for case in cases]
    assert [list(answer.token_ids) for answer in answers] == ends


def test_the_command_line_prints_a_line_a_word(serve):
    server = serve().ready()
    command = [sys.executable, "-m", "chairlift", "--server", server.listen, "ABC", "abc"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    (first, answer), (second, same) = (line.split("\t") for line in lines)
    assert (first, second) == ("ABC", "abc") and answer == same  # the tiny model's letters are lower case


def test_metrics_are_valid_and_count(serve):
    server = serve().ready()
    with Client(server.listen) as client:
        client.generate(["abc", "defg"])
    samples = {
        (sample.name, sample.labels.get("reason")): sample.value
        for family in text_string_to_metric_families(server.metrics())
        for sample in family.samples
    }
    ended = samples["chairlift_sequences_finished_total", "eos"]
    assert ended + samples["chairlift_sequences_finished_total", "length"] == 2
    assert samples["chairlift_rows_in_use", None] == 0


def test_sigterm_idle_exits_0(serve):
    server = serve("--lame-duck-seconds", "0").ready()
    server.terminate()
    assert server.exit_status() == 0


def test_sigterm_twice_skips_the_lame_duck(serve):
    server = serve("--lame-duck-seconds", "600").ready()
    server.terminate()
    server.logged("draining")
    server.terminate()
    assert server.exit_status() == 0


async def test_sigterm_under_load_answers_every_admitted_call(serve):
    """Callers go on until they are turned away; whoever was let in must have got the right answer."""
    server = serve("--lame-duck-seconds", "0.3", "--max-rows", "4").ready()
    words = ["a" * length for length in range(1, 20)]
    answered = refused = 0
    async with AsyncClient(server.listen) as client:
        alone = {word: (await client.generate([word]))[0] for word in words}

        async def caller(place: int) -> None:
            nonlocal answered, refused
            while True:
                word = words[place % len(words)]
                try:
                    (answer,) = await client.generate([word])
                except Unavailable:
                    refused += 1
                    return
                assert answer == alone[word]
                answered += 1

        callers = [asyncio.create_task(caller(place)) for place in range(40)]
        await asyncio.sleep(0.2)
        server.terminate()
        await asyncio.wait_for(asyncio.gather(*callers), 30)
    assert server.exit_status() == 0
    assert answered > 100 and refused == 40
    assert not any('"ERROR"' in line for line in server.lines)


async def test_health_is_not_serving_while_calls_are_still_taken(serve):
    server = serve("--lame-duck-seconds", "2").ready()
    async with grpc.aio.insecure_channel(server.listen) as channel, AsyncClient(server.listen) as client:
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=""))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        server.terminate()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert len(await client.generate(["abc"])) == 1
        watch.cancel()
    assert server.exit_status() == 0


def test_logs_are_json_and_hold_no_request_text(serve):
    server = serve("--lame-duck-seconds", "0", "--log-level", "debug").ready()
    with Client(server.listen) as client:
        client.generate(["quixotic", "zzyzx\0quixotic", ""])
    server.terminate()
    assert server.exit_status() == 0
    assert all(json.loads(line)["message"] for line in server.lines)
    assert not any("quixotic" in line for line in server.lines)


@pytest.mark.parametrize("fault", ["truncated", "flipped", "missing", "extra", "renamed"])
def test_a_damaged_bundle_is_never_served(serve, tiny_models, tmp_path, fault):
    models = tmp_path / "models"
    shutil.copytree(tiny_models, models)
    folder = models / "tiny" / "1"
    decoder = (folder / "decoder.int8.onnx").read_bytes()
    if fault == "truncated":
        (folder / "decoder.int8.onnx").write_bytes(decoder[:-100])
    elif fault == "flipped":
        (folder / "decoder.int8.onnx").write_bytes(decoder[:500] + bytes([decoder[500] ^ 1]) + decoder[501:])
    elif fault == "missing":
        (folder / "target.json").unlink()
    elif fault == "extra":
        (folder / "notes.txt").write_text("hello")
    else:
        folder.rename(models / "tiny" / "2")
    server = serve(models=models)
    assert server.exit_status() == 2
    (line,) = server.lines
    assert line.startswith("service: model tiny/") and str(tmp_path) not in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--device", "cuda"], "cuda"),
        (["--default-model", "other"], "--default-model 'other'"),
        (["--max-rows", "0"], "--max-rows='0'"),
        (["--models", "nowhere"], "--models nowhere: no such folder"),
    ],
    ids=["device", "default", "rows", "models"],
)
def test_what_cannot_start_says_why_in_one_line(serve, options, says):
    server = serve(*options)
    assert server.exit_status() == 2
    assert len(server.lines) == 1 and says in server.lines[0]


@pytest.mark.parametrize("port", ["--listen", "--http"])
def test_a_port_that_is_taken_is_an_error(serve, port):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = serve(port, address)
        assert server.exit_status() == 2
    assert f"{port} {address}" in server.lines[-1]
