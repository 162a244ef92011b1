"""Two lanes over the same graphs: who has priority rides in rows of its own, between the steps of the others.

In full rows a step takes long, and a sequence needs many of them. An express sequence waits for the step in
hand, then its own few rows are stepped alone, as fast as on an idle machine; the others stand still
meanwhile. So that they never do so for ever, every TURNS express steps are followed by one of theirs.
"""

from collections.abc import Iterable

from service.messages import News, is_express
from service.scheduler import Scheduler
from service.sequence import Sequence

TURNS = 16  # express steps
COMPANY_STEPS = 10  # for which the ended wait for others, to travel together
COMPANY_ENDS = 32  # ended sequences that wait for no more of them


class Lanes:
    """A scheduler for those with a priority above 0, and one for all others."""

    def __init__(self, common: Scheduler, express: Scheduler) -> None:
        self._common = common
        self._express = express
        self._turns = 0  # express steps since the last common one
        self._quiet = 0  # steps since the last news

    @property
    def busy(self) -> bool:
        """Whether a tick has anything to do."""
        return self._common.busy or self._express.busy

    def submit(self, sequences: Iterable[Sequence]) -> None:
        """Lets sequences wait for rows of their lane."""
        express: list[Sequence] = []
        common: list[Sequence] = []
        for sequence in sequences:
            (express if is_express(sequence.priority) else common).append(sequence)
        self._express.submit(express)
        self._common.submit(common)

    def cancel(self, ids: Iterable[int]) -> None:
        """Ends sequences whose callers left, in whichever lane they are."""
        gone = list(ids)
        self._express.cancel(gone)
        self._common.cancel(gone)

    def abort(self) -> None:
        """Ends every sequence inside, as drained."""
        self._express.abort()
        self._common.abort()

    def lose(self) -> list[Sequence]:
        """Ends every sequence that runs, as lost with its device. Returns those who wait."""
        return self._express.lose() + self._common.lose()

    def tick(self) -> None:
        """One step of the lane whose turn it is."""
        if self._express.busy and (self._turns < TURNS or not self._common.busy):
            self._turns += 1
            self._express.tick()
        else:
            self._turns = 0
            self._common.tick()

    def take_news(self, at_once: bool = False) -> list[News]:
        """What somebody waits to hear; bare figures wait for the next time.

        Each message costs front and engine more than an answer in it. So where many decode, whoever ends
        waits a few steps for others that end; streams and those with priority do not. `at_once`: nobody does.
        """
        self._quiet += 1
        if not at_once and self._news_can_wait():
            return []
        self._quiet = 0
        told = []
        for scheduler in (self._express, self._common):
            if scheduler.news.ended or scheduler.news.progress:
                told.append(scheduler.news)
                scheduler.news = News()
        return told

    def _news_can_wait(self) -> bool:
        news = self._common.news
        if news.progress or self._express.busy or self._express.news.ended or not self._common.busy:
            return False
        steps = min(COMPANY_STEPS, len(self._common.running) // 2)  # a step with few rows is a short one, too
        return self._quiet < steps and len(news.ended) < COMPANY_ENDS
