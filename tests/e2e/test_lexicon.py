"""Lexicons of the service as a process: brought in a folder, swapped under callers, told by the client."""

import asyncio
import json
import subprocess
import sys

from chairlift import AnswerSource, AsyncClient, Client


def put(folder, lines):
    (folder / "new").write_text(lines)
    (folder / "new").rename(folder / "tiny.tsv")


async def test_a_lexicon_is_swapped_under_callers(serve, tmp_path):
    """Every call is answered, by one lexicon or the next, and the digest says by which."""
    put(tmp_path, "abc\tT1 T2\n")
    flags = ("--lexicons", str(tmp_path), "--lexicon-seconds", "0.05", "--lame-duck-seconds", "0")
    server = serve(*flags).ready()
    found: dict[str, set[str]] = {}
    async with AsyncClient(server.listen) as client:
        others = (await client.generate(["cab"]))[0].text

        async def caller() -> None:
            while len(found) < 2:
                listed, other = await client.generate(["ABC", "cab"])
                assert (listed.source, other.source) == (AnswerSource.LEXICON, AnswerSource.MODEL)
                assert other.text == others
                found.setdefault(listed.model.digest, set()).add(listed.text)

        callers = [asyncio.create_task(caller()) for _ in range(8)]
        put(tmp_path, "abc\tT3\nb\tT4\n")
        await asyncio.wait_for(asyncio.gather(*callers), 30)
        assert (await client.model()).lexicon_entries == 2
    assert list(found.values()) == [{"T1 T2"}, {"T3"}]
    assert 'chairlift_lexicon_entries{model="tiny",version="1"} 2.0' in server.metrics()
    server.terminate()
    assert server.exit_status() == 0


def test_the_command_line_says_where_an_answer_is_from(serve, tmp_path):
    put(tmp_path, "abc\tT1 T2\n")
    server = serve("--lexicons", str(tmp_path), "--lame-duck-seconds", "0").ready()
    command = [sys.executable, "-m", "chairlift", "--server", server.listen]

    def said(*options: str) -> list[str]:
        return subprocess.run(
            [*command, *options], capture_output=True, text=True, check=True
        ).stdout.splitlines()

    assert said("abc", "cab")[0] == "abc\tT1 T2"  # what is piped on has no mark
    assert [json.loads(line)["source"] for line in said("--json", "abc", "cab")] == ["lexicon", "model"]
    assert [json.loads(line)["lexicon_entries"] for line in said("--json", "--list")] == [1]
    with Client(server.listen) as client:
        chunk, answer = client.stream("abc")
        assert chunk.text == answer.text == "T1 T2" and answer.source is AnswerSource.LEXICON


def test_a_wrong_lexicon_at_the_start_says_why_in_one_line(serve, tmp_path):
    put(tmp_path, "abc\tT1\nabd\tT99\n")
    server = serve("--lexicons", str(tmp_path))
    assert server.exit_status() == 2
    assert server.lines[-1].startswith("service: --lexicons: tiny.tsv: line 2: target 1: token 1 is not")
    assert str(tmp_path) not in "".join(server.lines)
