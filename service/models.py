"""The models that are served, and what happens to a text: checked, turned into ids, decoded, turned back.

Knows nothing of gRPC. One Model is one bundle version with its own rows; `Models` selects among them.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator
from collections.abc import Sequence as Sized
from dataclasses import dataclass, field

from bundle.reader import Bundle
from service.errors import (
    DeadlineExceeded,
    Draining,
    Internal,
    InvalidRequest,
    ServiceError,
    UnknownModel,
    Violation,
)
from service.inputs import source_ids
from service.scheduler import Scheduler
from service.sequence import Outcome, Sequence

log = logging.getLogger(__name__)

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Answer:
    """The best hypothesis of one input."""

    text: str
    token_ids: list[int]
    score: float  # natural-log probability of the whole
    outcome: Outcome
    source_length: int
    unknown_tokens: int


@dataclass(frozen=True)
class Chunk:
    """Tokens that a stream has decided on, and what they add to the text."""

    index: int
    token_ids: list[int]
    text: str
    scores: list[float]


@dataclass
class Ticket:
    """What one call waits for: `done` is set when the last of its sequences has ended."""

    left: int
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def one_less(self, _: Sequence) -> None:
        """Hears that a sequence has ended."""
        self.left -= 1
        if self.left == 0 and not self.done.done():
            self.done.set_result(None)


class Model:
    """One bundle version, ready: its texts, its limits, and the scheduler of its rows."""

    def __init__(self, bundle: Bundle, scheduler: Scheduler, device: str, max_inputs: int) -> None:
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.scheduler = scheduler
        self.device = device
        self.max_inputs = max_inputs

    async def generate(
        self, inputs: Sized[str], max_length: int, deadline: float
    ) -> list[Answer | ServiceError]:
        """Decodes inputs; each gets an answer or its own error, in order. `deadline`: on the monotonic clock.

        Raises InvalidRequest for options or an only input that is wrong, and what befalls a call as a
        whole: Overloaded, Draining, DeadlineExceeded.
        """
        limit = self._length_limit(max_length)
        if not 1 <= len(inputs) <= self.max_inputs:
            raise InvalidRequest(
                Violation("inputs", f"{len(inputs)} inputs; 1 to {self.max_inputs} are allowed")
            )
        results: list[Answer | ServiceError | Sequence] = []
        ticket = Ticket(0)
        for index, text in enumerate(inputs):
            try:
                ids = self._source_ids(text, f"inputs[{index}]")
            except InvalidRequest as error:
                if len(inputs) == 1:
                    raise
                results.append(error)
            else:
                results.append(Sequence(ids, limit, deadline, ticket.one_less))
        sequences = [result for result in results if isinstance(result, Sequence)]
        ticket.left = len(sequences)
        if sequences:
            self.scheduler.submit(sequences)
            await self._wait(ticket, sequences)
        answers = [self._result(r) if isinstance(r, Sequence) else r for r in results]
        if len(answers) == 1 and isinstance(answers[0], ServiceError):
            raise answers[0]
        for answer in answers:
            if isinstance(answer, DeadlineExceeded | Draining):
                raise answer  # these befall the call as a whole
        return answers

    async def stream(
        self, text: str, max_length: int, deadline: float
    ) -> AsyncGenerator[Chunk | Answer, None]:
        """Decodes one input: chunks as tokens are decided, then the answer. Raises as `generate`."""
        limit = self._length_limit(max_length)
        news = asyncio.Event()
        sequence = Sequence(self._source_ids(text, "input"), limit, deadline, lambda _: news.set(), True)
        self.scheduler.submit([sequence])
        sent, said = 0, ""
        try:
            while True:
                await news.wait()
                news.clear()
                ended = sequence.outcome is not None
                tokens = sequence.tokens[:]
                if len(tokens) > sent:
                    whole = self.bundle.target.decode(tokens)
                    yield Chunk(sent, tokens[sent:], whole[len(said) :], sequence.scores[sent : len(tokens)])
                    sent, said = len(tokens), whole
                if ended:
                    break
        finally:
            if sequence.outcome is None:
                self.scheduler.cancel([sequence])
        result = self._result(sequence)
        if isinstance(result, ServiceError):
            raise result
        yield result

    async def _wait(self, ticket: Ticket, sequences: list[Sequence]) -> None:
        """Waits for the ticket; whoever hangs up meanwhile frees the rows."""
        try:
            await ticket.done
        except asyncio.CancelledError:
            self.scheduler.cancel(sequences)
            raise

    def _length_limit(self, max_length: int) -> int:
        most = self.manifest.limits.max_target_length
        if not 0 <= max_length <= most:
            raise InvalidRequest(
                Violation("options.max_length", f"{max_length}; 0 to {most} are allowed (0: {most})")
            )
        return max_length or most

    def _source_ids(self, text: str, field: str) -> list[int]:
        return source_ids(self.bundle.source, text, self.manifest.limits.max_source_length, field)

    def _result(self, sequence: Sequence) -> Answer | ServiceError:
        outcome = sequence.outcome
        if outcome is Outcome.EOS or outcome is Outcome.LENGTH:
            return Answer(
                text=self.bundle.target.decode(sequence.tokens),
                token_ids=sequence.tokens,
                score=sum(sequence.scores),
                outcome=outcome,
                source_length=len(sequence.source_ids),
                unknown_tokens=sequence.source_ids.count(self.manifest.vocabulary.source_unknown_id),
            )
        if outcome is Outcome.DEADLINE:
            return DeadlineExceeded("the deadline passed before the answer was complete")
        if outcome is Outcome.DRAINED:
            return Draining("the server stopped before the answer was complete")
        error = Internal()
        log.error("a sequence failed", extra={"error_id": error.error_id})
        return error


class Models:
    """Every model version that is served, by name and version."""

    def __init__(self, models: Sized[Model], default: str) -> None:
        self.by_name: dict[str, dict[int, Model]] = {}
        for model in models:
            self.by_name.setdefault(model.manifest.name, {})[model.manifest.version] = model
        self.default = default

    def all(self) -> list[Model]:
        """By name, then version."""
        return [versions[v] for _, versions in sorted(self.by_name.items()) for v in sorted(versions)]

    def select(self, name: str, version: int) -> Model:
        """The model of a name (empty: the default) and version (0: the highest).

        Raises InvalidRequest for what no model could be called, UnknownModel for what none here is.
        """
        name = name or self.default
        if not NAME.fullmatch(name):
            reason = "not a name; lower-case letters, digits, '.', '_' and '-', at most 64, are allowed"
            raise InvalidRequest(Violation("model.name", reason))
        if version < 0:
            raise InvalidRequest(
                Violation("model.version", f"{version}; 0 (the highest) and more are allowed")
            )
        versions = self.by_name.get(name)
        if versions is None:
            raise UnknownModel(f"model {name!r}: not served here; {', '.join(sorted(self.by_name))} are")
        chosen = version or max(versions)
        if chosen not in versions:
            known = ", ".join(map(str, sorted(versions)))
            raise UnknownModel(f"model {name!r} version {version}: not served here; {known} are")
        return versions[chosen]


def deadline_after(seconds: float | None, longest: float) -> float:
    """A deadline on the monotonic clock: the caller's, but not past the server's longest."""
    return time.monotonic() + (longest if seconds is None else min(seconds, longest))
