"""Whose inputs share a sequence: equal ones that are decoded alike, while somebody is decoding them."""

import asyncio
import time

import pytest

from bundle.reader import Bundle
from service.dispatcher import Dispatcher
from service.errors import Overloaded
from service.hypothesis import Hypothesis, Outcome
from service.messages import Ended, News
from service.models import Model
from service.options import Options
from service.settings import Settings
from tests.service.desk import settle
from tests.service.test_dispatcher import Wire

PLAIN = Options(9)


class Asked:
    """A model whose engine is a wire, and those who ask it."""

    def __init__(self, bundle: Bundle, rows: int = 8, max_waiting: int = 8, **settings) -> None:
        self.wire = Wire()
        dispatcher = Dispatcher([self.wire], rows, max_waiting, lambda *_: None, lambda: None)
        self.model = Model(bundle, "fp32", "cpu", dispatcher, Settings(**settings))

    def ask(self, text: str, options: Options = PLAIN) -> asyncio.Future:
        return asyncio.ensure_future(self.model.generate([text], options, time.monotonic() + 100))

    def answer(self, *ids: int) -> None:
        """Each with a token of its own number."""
        found = {id_: Hypothesis([1 + id_], [-0.5, -0.5], "eos", -1.0, -1.0) for id_ in ids}
        self.wire.hear(News(ended=[Ended(id_, Outcome.EOS, [found[id_]], 1.0, 1.0, 1.0) for id_ in ids]))


def tokens(answers: list) -> list[list[int]]:
    return [answer.hypotheses[0].tokens for (answer,) in answers]


async def test_other_options_are_another_sequence(bundle: Bundle):
    """In flight, and among the answers that are kept."""
    asked = Asked(bundle, answer_cache=100)
    others = (Options(9, banned=(3,)), Options(9, beam_size=2), Options(9, min_length=2))
    calls = [asked.ask("ab"), *(asked.ask("ab", options) for options in others), asked.ask("ab")]
    await settle()
    assert asked.wire.ids == [1, 2, 3, 4], "the last one joins the first"
    asked.answer(1, 2, 3, 4)
    assert tokens(await asyncio.gather(*calls)) == [[2], [3], [4], [5], [2]]
    again = [asked.ask("ab"), *(asked.ask("ab", options) for options in others)]
    assert tokens(await asyncio.gather(*again)) == [[2], [3], [4], [5]]
    assert asked.wire.ids == [1, 2, 3, 4], "all were kept"


async def test_who_takes_what_there_is_at_the_deadline_shares_with_nobody(bundle: Bundle):
    asked = Asked(bundle, answer_cache=100)
    calls = [asked.ask("ab", Options(9, partial_on_deadline=True)) for _ in range(2)]
    await settle()
    assert asked.wire.ids == [1, 2]
    asked.answer(1, 2)
    assert tokens(await asyncio.gather(*calls)) == [[2], [3]]


async def test_nobody_joins_a_call_that_was_refused(bundle: Bundle):
    asked = Asked(bundle, rows=1, max_waiting=0)
    first = asked.ask("abc")
    await settle()
    with pytest.raises(Overloaded):
        await asked.ask("ab")
    asked.answer(1)
    await first
    second = asked.ask("ab")
    await settle()
    assert asked.wire.ids == [1, 2], "it waits for a sequence that there never was"
    asked.answer(2)
    assert tokens([await second]) == [[3]]
