"""Both clients against a real server: the same answers and the same errors from either."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import grpc
import pytest

import chairlift
from chairlift import AsyncClient, Client, FinishReason, Generation, InputError, TokenChunk, wire


def test_one_input(client):
    [answer] = client.generate("snow?")
    assert (answer.text, answer.token_ids) == ("? w o n s", tuple(map(ord, "?wons")))
    assert (answer.score, answer.finish_reason) == (-2.5, FinishReason.EOS)
    assert (answer.source_length, answer.unknown_tokens, len(answer.hypotheses)) == (5, 1, 1)
    assert answer.model == chairlift.ModelReference("backwards", 3, "ab" * 32)


def test_many_inputs_come_back_in_order_and_a_bad_one_harms_no_other(client):
    first, bad, last = client.generate(["ab", "BAD", "cd"])
    assert (first.text, last.text) == ("b a", "d c")
    assert bad == InputError("INVALID_ARGUMENT", "bad", "inputs[1]")


def test_only_input_that_is_bad_is_a_value_in_a_sequence_and_an_error_as_a_string(client):
    assert client.generate(["BAD"]) == [InputError("INVALID_ARGUMENT", "bad", "inputs[0]")]
    with pytest.raises(chairlift.InvalidRequest) as caught:
        client.generate("BAD")
    assert caught.value.violations == (chairlift.FieldViolation("inputs[0]", "bad"),)


def test_sequence_of_one_raises_where_the_input_is_not_at_fault(client):
    with pytest.raises(chairlift.InvalidRequest, match="told to"):
        client.generate(["INVALID_ARGUMENT"])


def test_an_answer_may_be_larger_than_grpc_takes_by_itself(client):
    [answer] = client.generate("LARGE")
    assert len(answer.text) == 5 << 20


def test_length_limit_reaches_the_server(client):
    [answer] = client.generate("snow", max_length=2)
    assert (answer.text, answer.finish_reason) == ("w o", FinishReason.LENGTH)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("INVALID_ARGUMENT", chairlift.InvalidRequest),
        ("NOT_FOUND", chairlift.ModelNotFound),
        ("DEADLINE_EXCEEDED", chairlift.DeadlineExceeded),
        ("INTERNAL", chairlift.ServerError),
        ("UNKNOWN", chairlift.ServerError),
        ("UNIMPLEMENTED", chairlift.ChairliftError),
        ("PERMISSION_DENIED", chairlift.ChairliftError),
    ],
)
def test_each_status_has_its_error_and_is_not_tried_again(client, server, status, error):
    with pytest.raises(chairlift.ChairliftError) as caught:
        client.generate(status)
    assert type(caught.value) is error
    assert caught.value.code is grpc.StatusCode[status]
    assert str(caught.value) == f"{status}: told to: {status}"
    assert server.servicer.calls[status] == 1


def test_call_that_is_refused_twice_is_answered_at_the_third_attempt(client, server):
    [answer] = client.generate("TWICE")
    assert answer.text == "E C I W T"
    assert server.servicer.calls["TWICE"] == 3


def test_server_that_stays_full_is_asked_three_times_and_says_when_to_come_back(client, server):
    with pytest.raises(chairlift.Overloaded) as caught:
        client.generate("FULL")
    assert caught.value.retry_delay_seconds == 0.25
    assert server.servicer.calls["FULL"] == 3


def test_deadline(client):
    with pytest.raises(chairlift.DeadlineExceeded):
        client.generate("SLOW", timeout_seconds=0.1)


def test_server_that_is_not_there(unused_address):
    with Client(unused_address) as client, pytest.raises(chairlift.Unavailable):
        client.models()


@pytest.fixture
def unused_address():
    with socket.socket() as reserved:  # bound but not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{reserved.getsockname()[1]}"


def test_credentials_make_it_speak_tls(server):
    credentials = grpc.ssl_channel_credentials()
    with Client(server.address, credentials=credentials) as client, pytest.raises(chairlift.Unavailable):
        client.models()  # the server speaks none


def test_answer_with_too_few_results_is_the_servers_fault(client):
    with pytest.raises(chairlift.ServerError, match="1 results for 2 inputs"):
        client.generate(["SHORT", "snow"])


def test_what_no_server_takes_is_not_sent(client, server):
    """A server would refuse it as if it were full, and it would be sent again."""
    long = "x" * wire.MAX_REQUEST_BYTES
    [error] = client.generate([long])
    assert error.field == "inputs[0]" and "bytes; 1048576 are allowed" in error.message
    for inputs in (long, [long, "snow"]):
        with pytest.raises(chairlift.InvalidRequest, match="1048576 are allowed"):
            client.generate(inputs)
    with pytest.raises(chairlift.InvalidRequest, match="input: the request has"):
        list(client.stream(long))
    [error] = client.score([long], ["w"])
    assert error.field == "inputs[0]"
    assert not server.servicer.calls


def test_text_that_utf8_cannot_hold_is_not_sent(client, server):
    with pytest.raises(ValueError, match="surrogates"):
        client.generate("\udcff")
    assert not server.servicer.calls


def test_stream_gives_chunks_and_then_the_answer(client):
    *chunks, answer = client.stream("snow")
    assert chunks[0] == TokenChunk(0, (ord("w"),), "w", (-0.5,))
    assert [chunk.index for chunk in chunks] == [0, 1, 2, 3]
    assert isinstance(answer, Generation)
    assert "".join(chunk.text for chunk in chunks) == answer.text == "w o n s"
    assert [answer] == client.generate("snow")


def test_stream_is_tried_again_while_nothing_has_arrived(client, server):
    *_, answer = client.stream("TWICE")
    assert answer.text == "E C I W T"
    assert server.servicer.calls["TWICE"] == 3


def test_stream_that_breaks_gives_what_came_and_then_the_error(client, server):
    events = []
    with pytest.raises(chairlift.ServerError, match="error 7"):
        events.extend(client.stream("BREAK"))
    assert [event.text for event in events] == ["K"]
    assert server.servicer.calls["BREAK"] == 1


@pytest.mark.parametrize(
    ("order", "complaint"), [("GAP", "a chunk at token 1 where 0 comes next"), ("CUT", "without a result")]
)
def test_stream_that_breaks_the_contract(client, order, complaint):
    with pytest.raises(chairlift.ServerError, match=complaint):
        list(client.stream(order))


def test_leaving_a_stream_early_hangs_up(server):
    with Client(server.address) as client:
        with contextlib.closing(client.stream("WAIT", timeout_seconds=60)) as events:
            assert next(events).text == "T"
        assert server.servicer.hung_up.wait(10)


async def test_leaving_an_async_stream_early_hangs_up(server):
    async with AsyncClient(server.address) as client:
        async with contextlib.aclosing(client.stream("WAIT", timeout_seconds=60)) as events:
            assert (await anext(events)).text == "T"
        assert await asyncio.to_thread(server.servicer.hung_up.wait, 10)


async def test_cancelling_a_task_is_a_cancellation_and_not_an_error(server):
    async with AsyncClient(server.address) as client:
        call = asyncio.create_task(client.generate("SLOW"))
        assert await asyncio.to_thread(server.servicer.waiting.wait, 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


def test_models(client):
    [model] = client.models()
    assert (model.reference.name, model.ready, model.is_default) == ("backwards", True, True)
    assert (model.card.title, model.card.scores[0].value) == ("Spells backwards", 1.5)
    assert (model.limits.max_inputs, model.profiles, model.profile, model.device) == (
        1024,
        ("fp32",),
        "fp32",
        "cpu",
    )
    assert (model.architecture.cell, model.architecture.parameters) == ("lstm", 2**33)
    assert model.source_tokens == ()


def test_one_model_has_its_vocabulary(client):
    assert client.model().source_tokens == ("<pad>", "<unk>")
    with pytest.raises(chairlift.ModelNotFound, match="no model other"):
        client.model("other", 1)


def test_results_are_frozen(client):
    [answer] = client.generate("snow")
    with pytest.raises(AttributeError):
        answer.source_length = 2


CALLS = {
    "generate": lambda client, text, **asked: client.generate([text], **asked),
    "stream": lambda client, text, **asked: list(client.stream(text, **asked)),
    "score": lambda client, text, **asked: client.score([text], ["x"], **asked),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_call_has_its_time_its_model_and_its_priority(client, server, call):
    call(client, "ab", model="backwards", version=3, priority=2)
    request = server.servicer.request
    assert (request.model.name, request.model.version, request.priority) == ("backwards", 3, 2)
    with pytest.raises(chairlift.DeadlineExceeded):
        call(client, "SLOW", timeout_seconds=0.2)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), 1e12])
def test_a_time_that_is_none_is_refused(client, server, seconds):
    for call in (client.generate, lambda text, **options: list(client.stream(text, **options))):
        with pytest.raises(ValueError, match=r"timeout_seconds: .*; more than 0 and at most 86400"):
            call("snow", timeout_seconds=seconds)
    assert not server.servicer.calls


async def test_a_client_that_is_closed_asks_nobody(server):
    with Client(server.address) as blocking:
        pass
    async with AsyncClient(server.address) as client:
        pass
    with pytest.raises(ValueError, match="closed"):
        blocking.generate("snow")
    with pytest.raises(ValueError, match="closed"):
        await client.generate("snow")
    assert not server.servicer.calls
