"""Who gave an answer: what the clients read, and what the command line shows of it."""

import json
import sys

import pytest

from chairlift import AnswerSource, Generation, TokenChunk, description_wire, wire
from chairlift.printing import GrowingLine, print_answer
from chairlift.v1 import seq2seq_pb2 as pb


def answer_from(source: int) -> Generation:
    message = pb.Generation(hypotheses=[pb.Hypothesis(text="x y")], source=source)
    request = wire.generate_request("a", pb.ModelSelector(), 0, {})
    [answer] = wire.results(request, pb.GenerateResponse(results=[pb.Result(generation=message)]))
    assert isinstance(answer, Generation)
    return answer


@pytest.mark.parametrize(
    ("source", "read"),
    [
        (pb.ANSWER_SOURCE_MODEL, AnswerSource.MODEL),
        (pb.ANSWER_SOURCE_LEXICON, AnswerSource.LEXICON),
        (pb.ANSWER_SOURCE_UNSPECIFIED, AnswerSource.UNSPECIFIED),  # of an older server
        (99, AnswerSource.UNSPECIFIED),  # of a newer one
    ],
)
def test_sources_are_read(source: int, read: AnswerSource) -> None:
    assert answer_from(source).source is read


def test_entries_are_read() -> None:
    assert description_wire.model(pb.Model(lexicon_entries=7)).lexicon_entries == 7


@pytest.mark.parametrize("source", [pb.ANSWER_SOURCE_MODEL, pb.ANSWER_SOURCE_LEXICON])
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_person_is_told_and_a_pipe_is_not(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    source: pb.AnswerSource,
    terminal: bool,
    streamed: bool,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    if streamed:
        line = GrowingLine("a", as_json=False)
        line.grow(TokenChunk(0, (1, 2), "x y", (0.0, 0.0)))
        line.finish(answer_from(source))
        line.close()
    else:
        print_answer("a", answer_from(source), as_json=False)
    marked = terminal and source == pb.ANSWER_SOURCE_LEXICON
    assert capsys.readouterr().out == "a\tx y" + "\t(lexicon)" * marked + "\n"


def test_json_has_the_source(capsys: pytest.CaptureFixture[str]) -> None:
    print_answer("a", answer_from(pb.ANSWER_SOURCE_LEXICON), as_json=True)
    assert json.loads(capsys.readouterr().out)["source"] == "lexicon"
