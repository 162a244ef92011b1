"""A model, and what happens to a text in it: checked, turned into ids, decoded, turned back.

Knows nothing of gRPC, or of other models. One Model is one bundle version with its own engines.
"""

import asyncio
import copy
import logging
import time
from collections.abc import AsyncGenerator
from collections.abc import Sequence as Sized
from functools import partial

from bundle.lexicon import Lexicon
from bundle.reader import Bundle
from service.answers import Answers, Caller, Key
from service.answers import Flight as SharedFlight
from service.dispatcher import Dispatcher, Submission, express_rows
from service.errors import (
    DeadlineExceeded,
    Draining,
    Internal,
    InvalidRequest,
    ServiceError,
    Violation,
)
from service.hypothesis import Outcome
from service.inputs import TURN_CHARACTERS, source_ids
from service.lexicon import asks_for_the_best_alone, digest_with, hypotheses
from service.options import Options, forced
from service.results import Answer, Chunk, Result, answer_of, result_of, size_bytes, too_late
from service.settings import Settings

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 256 << 20  # of kept answers, about

Source = list[int] | InvalidRequest | Answer  # its ids, or what is known before anything is decoded
Flight = SharedFlight[Result, Submission]


class Model:
    """One bundle version, ready: its texts, its limits, its engines and the answers that are there.

    `digest` names all that decides an answer: the bundle, and a lexicon that is not the bundle's own.
    """

    def __init__(
        self, bundle: Bundle, profile: str, device: str, dispatcher: Dispatcher, settings: Settings
    ) -> None:
        self.bundle = bundle
        self.lexicon = bundle.lexicon
        self.digest = bundle.digest
        self.manifest = bundle.manifest
        self.profile = profile
        narrowest = express_rows(settings.max_rows)  # whoever wants more than that lane has never comes in
        self.max_beam_size = narrowest
        self.max_inputs = min(settings.max_inputs, narrowest + settings.max_waiting)
        self.dispatcher = dispatcher
        dispatcher.device = device
        self.answers: Answers[Result, Submission] = Answers(
            dispatcher.cancel, settings.answer_cache, MAX_ANSWER_BYTES, settings.single_flight
        )
        self._shares = settings.single_flight or settings.answer_cache > 0

    @property
    def device(self) -> str:
        """Where it is decoded; all copies of a model share its engines."""
        return self.dispatcher.device

    @property
    def lexicon_entries(self) -> int:
        """Inputs that the lexicon answers."""
        return 0 if self.lexicon is None else len(self.lexicon)

    def with_lexicon(self, lexicon: Lexicon | None) -> "Model":
        """The same model on the same engines, with another lexicon; None: the bundle's own."""
        model = copy.copy(self)
        model.lexicon = self.bundle.lexicon if lexicon is None else lexicon
        model.digest = digest_with(self.bundle, model.lexicon)
        return model

    async def generate(
        self, inputs: Sized[str], options: Options, deadline: float, priority: int = 0
    ) -> list[Result]:
        """Decodes inputs; each gets an answer or its own error, in order. `deadline`: on the monotonic clock.

        Raises InvalidRequest for an only input that is wrong, and what befalls a call as a whole: Overloaded,
        Draining, and DeadlineExceeded where nothing is whole, nor any part asked for.
        """
        sources = await self._sources(inputs)
        if self.lexicon is not None and asks_for_the_best_alone(options):
            sources = [self._listed(*pair, options) for pair in zip(inputs, sources, strict=True)]
        return await self._decode([(source, options) for source in sources], Caller(deadline, priority))

    async def score(
        self,
        inputs: Sized[str],
        targets: Sized[tuple[int, ...] | InvalidRequest],
        deadline: float,
        priority: int = 0,
    ) -> list[Result]:
        """The probability of one target (ids without <E>) for each input. Raises as `generate`."""
        end_id = self.manifest.vocabulary.end_id
        wanted: list[tuple[Source, Options]] = []
        for source, target in zip(await self._sources(inputs), targets, strict=True):
            if isinstance(target, InvalidRequest):
                wanted.append((target, Options(1)))
            else:
                wanted.append((source, forced(target, end_id)))
        return await self._decode(wanted, Caller(deadline, priority))

    async def stream(
        self, text: str, options: Options, deadline: float, priority: int = 0
    ) -> AsyncGenerator[Chunk | Answer, None]:
        """Decodes one input: chunks as tokens are decided, then the answer. Raises as `generate`."""
        news = asyncio.Event()
        ids = source_ids(self.bundle.source, text, self.manifest.limits.max_source_length, "input")
        if self.lexicon is not None and asks_for_the_best_alone(options):
            listed = self._listed(text, ids, options)
            if isinstance(listed, Answer):
                best = listed.hypotheses[0]
                yield Chunk(0, best.tokens, listed.texts[0], best.scores[:-1])
                yield listed
                return
        submission = Submission(ids, options, deadline, lambda _: news.set(), priority, streams=True)
        self.dispatcher.submit([submission])
        self.answers.decoded += 1
        sent, said = 0, ""
        try:
            ended = None
            while ended is None:
                await news.wait()
                news.clear()
                ended = submission.ended
                tokens, scores = submission.tokens[:], submission.scores[:]  # they grow while we wait
                if ended is not None and ended.hypotheses:
                    tokens, scores = ended.hypotheses[0].tokens, ended.hypotheses[0].scores
                if len(tokens) > sent:
                    whole = self.bundle.target.decode(tokens)
                    yield Chunk(sent, tokens[sent:], whole[len(said) :], scores[sent : len(tokens)])
                    sent, said = len(tokens), whole
        finally:
            self.dispatcher.cancel([submission])
        result = result_of(submission, self.bundle)
        if isinstance(result, ServiceError):
            raise result
        yield result

    async def _sources(self, inputs: Sized[str]) -> list[Source]:
        """Ids of each input, or what is wrong with it. Raises InvalidRequest for too many, or an only one."""
        if not 1 <= len(inputs) <= self.max_inputs:
            raise InvalidRequest(
                Violation("inputs", f"{len(inputs)} inputs; 1 to {self.max_inputs} are allowed")
            )
        sources: list[Source] = []
        most = self.manifest.limits.max_source_length
        turn = 0  # characters so far
        for index, text in enumerate(inputs):
            try:
                sources.append(source_ids(self.bundle.source, text, most, f"inputs[{index}]"))
            except InvalidRequest as error:
                if len(inputs) == 1:
                    raise
                sources.append(error)
            turn += len(text)
            if turn > TURN_CHARACTERS:
                turn = 0
                await asyncio.sleep(0)
        return sources

    def _listed(self, text: str, source: Source, options: Options) -> Source:
        """The lexicon's answer, where it has one; else the source as it is."""
        if self.lexicon is None or not isinstance(source, list):
            return source
        targets = self.lexicon.find(text, source)
        found = hypotheses(targets, options) if targets else []
        if not found:
            return source
        self.answers.listed += 1
        return answer_of(found, source, [None] * len(found), self.bundle, "lexicon")

    async def _decode(
        self,
        inputs: Sized[tuple[Source, Options]],
        caller: Caller[Result, Submission],
    ) -> list[Result]:
        now = time.monotonic()
        boarded: list[Flight | InvalidRequest | Answer] = []
        for source, options in inputs:
            if not isinstance(source, list):
                boarded.append(source)
                continue
            leading = len(caller.leads)
            flight = self.answers.board(self._key(source, options), caller, now)
            boarded.append(flight)
            if len(caller.leads) > leading:
                flight.sequence = self._submission(flight, source, options)
        try:
            self.dispatcher.submit([flight.sequence for flight in caller.leads if flight.sequence])
        except ServiceError:
            self.answers.leave(caller)
            raise
        self.answers.decoded += len(caller.leads)
        try:
            await self.answers.wait(caller)
        except TimeoutError:
            raise too_late() from None
        results = [found.answer if isinstance(found, SharedFlight) else found for found in boarded]
        some = any(isinstance(result, Answer) for result in results)
        for result in results:
            assert result is not None
            whole = isinstance(result, Draining) or (isinstance(result, DeadlineExceeded) and not some)
            if whole or (len(results) == 1 and isinstance(result, ServiceError)):
                assert isinstance(result, ServiceError)
                raise result.with_traceback(None)  # equal inputs share it
        return results  # type: ignore[return-value]  # none is None

    def _key(self, source: list[int], options: Options) -> Key | None:
        if not self._shares or options.partial_on_deadline:
            return None
        return Key(self.bundle.digest, self.profile, tuple(source), options)

    def _submission(self, flight: Flight, source: list[int], options: Options) -> Submission:
        return Submission(source, options, flight.deadline, partial(self._ended, flight), flight.priority)

    def _ended(self, flight: Flight, submission: Submission) -> None:
        """Hears that a flight's sequence has ended. Whatever goes wrong here is this flight's alone."""
        try:
            self._settle(flight, submission)
        except Exception:
            error = Internal()
            log.error("an answer was lost", exc_info=True, extra={"error_id": error.error_id})
            self.answers.fail(flight, error)

    def _settle(self, flight: Flight, submission: Submission) -> None:
        assert submission.ended is not None
        outcome = submission.ended.outcome
        if outcome is Outcome.CANCELLED:
            return  # nobody waits for it
        is_late = outcome is Outcome.DEADLINE and not submission.ended.hypotheses
        if is_late and not submission.options.partial_on_deadline:
            if self.answers.expire(flight, time.monotonic()):
                self._fly_again(flight, submission)
            return
        result = result_of(submission, self.bundle)
        if isinstance(result, ServiceError) or outcome is Outcome.DEADLINE or not self.answers.keeps:
            self.answers.fail(flight, result)
        else:
            self.answers.land(flight, result, size_bytes(submission, result))

    def _fly_again(self, flight: Flight, submission: Submission) -> None:
        """Starts a sequence anew for those whose own deadline is later than that of whoever led it."""
        flight.sequence = self._submission(flight, submission.source_ids, submission.options)
        try:
            self.dispatcher.submit_again(flight.sequence, submission)
        except Draining as error:
            self.answers.fail(flight, error)
