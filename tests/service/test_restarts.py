"""A sequence whose time is up starts again for those who joined it later, whoever has come meanwhile."""

import asyncio
import time

from bundle.reader import Bundle
from service.dispatcher import Dispatcher
from service.hypothesis import Hypothesis, Outcome
from service.messages import Ended, News
from service.models import Model
from service.options import Options
from service.settings import Settings
from tests.service.desk import settle
from tests.service.test_dispatcher import Wire

FOUND = Hypothesis([2], [-0.5, -0.5], "eos", -1.0, -1.0)


async def test_a_restarted_sequence_is_not_refused_at_the_door(bundle: Bundle):
    wire = Wire()
    dispatcher = Dispatcher([wire], 1, 0, lambda *_: None, lambda: None)
    model = Model(bundle, "fp32", "cpu", dispatcher, Settings())
    deadline = time.monotonic() + 100

    def ask(text: str, seconds: float, priority: int):
        return asyncio.ensure_future(model.generate([text], Options(9), deadline + seconds, priority))

    leader, follower = ask("ab", 0, -1), ask("ab", 1, -1)
    await settle()
    other = ask("abc", 0, 0)  # more urgent: the queue of those is empty
    await settle()
    assert wire.ids == [1, 2]
    wire.end(1, outcome=Outcome.DEADLINE)  # now the door is shut for those less urgent
    assert wire.ids == [1, 2, 3] and wire.batches[2].sources == wire.batches[0].sources
    assert wire.batches[2].arrived == wire.batches[0].arrived
    wire.hear(News(ended=[Ended(id_, Outcome.EOS, [FOUND], 1.0, 1.0, 1.0) for id_ in (2, 3)]))
    answers = await asyncio.gather(leader, follower, other, return_exceptions=True)
    assert isinstance(answers[0], Exception)
    assert [answer[0].hypotheses for answer in answers[1:]] == [[FOUND], [FOUND]]
