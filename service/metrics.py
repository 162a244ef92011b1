"""What Prometheus sees. One object, with an injected registry; only this and figures.py know the library.

Times are seconds; labels come from closed sets: never an input, an id, a peer or an error's text.
"""

from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

from service.answers import Answers
from service.dispatcher import Dispatcher, Submission
from service.errors import StartError
from service.figures import Counter, Histogram
from service.hypothesis import Outcome
from service.messages import News

MILLISECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
MICROSECONDS = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
MOST_ROWS = 4096  # of a step; the buckets of step time are the powers of two up to it
CODES = (
    *("OK", "Canceled", "InvalidArgument", "DeadlineExceeded", "NotFound", "ResourceExhausted"),
    *("Unimplemented", "Internal", "Unavailable"),
)


def new_registry() -> CollectorRegistry:
    """A registry with the process's own figures: memory, processor time, open files, collections."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # time stamps that nobody reads
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


CALL = ("grpc_type", "grpc_service", "grpc_method")
MODEL = ("model", "version")
DESCRIPTION = ("device", "profile", "digest")


class Metrics:
    """Every family of metrics of the server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(name, text, labels, registry)

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        def histogram(
            name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...] = MILLISECONDS
        ) -> Histogram:
            return Histogram(name, text, labels, buckets, registry)

        self.started = counter("grpc_server_started", "Calls that arrived.", CALL)
        self.handled = counter("grpc_server_handled", "Calls that ended, by status.", (*CALL, "grpc_code"))
        self.received = counter("grpc_server_msg_received", "Messages read.", CALL)
        self.sent = counter("grpc_server_msg_sent", "Messages written.", CALL)
        self.handling = histogram("grpc_server_handling_seconds", "Calls, from arrival to status.", CALL)

        self.rejected = counter("chairlift_rejected", "Calls refused at the door.", ("reason",))
        for reason in ("QUEUE_FULL", "DEADLINE_UNREACHABLE", "DRAINING", "DEVICE_LOST"):
            self.rejected.labels(reason)  # there from the start, so that the first refusals are an increase
        self.draining = gauge("chairlift_draining", "1 while the server drains.")
        self.fallbacks = counter("chairlift_device_fallback", "Engines on the CPU because CUDA did not work.")

        self._described: dict[tuple[str, str], dict[str, str]] = {}  # a model's labels in `info`
        self.info = gauge("chairlift_model_info", "1 for each model.", (*MODEL, *DESCRIPTION))
        self.ready = gauge("chairlift_model_ready", "1 once the golden cases passed.", MODEL)
        self.waiting = gauge(
            "chairlift_sequences_waiting",
            "Rows wanted and not free: one a sequence, or its beam's.",
            MODEL,
        )
        self.rows_in_use = gauge("chairlift_rows_in_use", "Rows that hold a sequence.", MODEL)
        self.rows = gauge("chairlift_rows", "Rows in all.", MODEL)
        self.finished = counter("chairlift_sequences_finished", "By how they ended.", (*MODEL, "reason"))
        self.cascades = counter(
            "chairlift_cascades", "Cascades that were answered, by what decoded them.", (*MODEL, "result")
        )
        self.source_tokens = counter("chairlift_source_tokens", "Source tokens encoded.", MODEL)
        self.generated_tokens = counter("chairlift_generated_tokens", "Target tokens, <E> included.", MODEL)
        self.queue_wait = histogram("chairlift_queue_wait_seconds", "From arrival to a row.", MODEL)
        self.first_token = histogram(
            "chairlift_time_to_first_token_seconds", "From arrival to the first token.", MODEL
        )
        self.per_token = histogram(
            "chairlift_time_per_token_seconds", "Mean time of a token of a sequence, from its row on.", MODEL
        )
        self.sequence = histogram("chairlift_sequence_seconds", "From arrival to the end.", MODEL)
        self.step_rows = histogram("chairlift_step_rows", "Rows of a decoder step.", MODEL, ROWS)
        self.step_seconds = histogram("chairlift_step_seconds", "Duration of a decoder step.", MODEL)
        self.step_overhead = histogram(
            "chairlift_step_overhead_seconds",
            "What a step, or a few in one go, takes besides decoder and encoder.",
            MODEL,
            MICROSECONDS,
        )
        self.steps = counter("chairlift_steps", "Decoder steps, by rows: up to so many.", (*MODEL, "rows"))
        self.steps_seconds = counter(
            "chairlift_steps_seconds", "Time of decoder steps, by rows: up to so many.", (*MODEL, "rows")
        )
        self.replays = counter("chairlift_graph_replays", "Steps that were a captured CUDA graph.", MODEL)
        self.device_bytes = gauge(
            "chairlift_device_memory_bytes", "Memory of a GPU for rows, besides the runtime's own.", MODEL
        )
        self.encode_rows = histogram("chairlift_encode_rows", "Sources of an encoder run.", MODEL, ROWS)
        self.encode_seconds = histogram("chairlift_encode_seconds", "Duration of an encoder run.", MODEL)
        self.answers = counter(
            "chairlift_answers", "Inputs by where their answers came from.", (*MODEL, "source")
        )
        self.answers_kept = gauge("chairlift_answers_kept", "Answers in the cache.", MODEL)
        self.lexicon_entries = gauge("chairlift_lexicon_entries", "Inputs that a lexicon answers.", MODEL)
        self.lexicon_reloaded = gauge(
            "chairlift_lexicon_last_reload_successful",
            "1: the lexicon's file was taken; 0: refused, the one before stays.",
            MODEL,
        )
        self.lexicon_reloaded_at = gauge(
            "chairlift_lexicon_last_reload_success_timestamp_seconds",
            "When a lexicon's file was last taken.",
            MODEL,
        )

    def describe(self, name: str, version: int, **known: str) -> None:
        """Says what a model is now: its device, profile and digest, or what has changed of those."""
        labels = name, str(version)
        before = self._described.get(labels)
        if before:
            self.info.remove(*labels, *before.values())
        now = self._described[labels] = {**dict.fromkeys(DESCRIPTION, ""), **(before or {}), **known}
        self.info.labels(*labels, *now.values()).set(1)

    def serve(self, address: str) -> str:
        """Answers /metrics over HTTP on a thread of its own; returns the real address. Raises StartError."""
        host, _, port = address.rpartition(":")
        try:
            server, _ = start_http_server(int(port), host.strip("[]"), self.registry)
        except OSError as error:
            raise StartError(f"--http {address}: {error.strerror}") from error
        return f"{host}:{server.server_port}"


class MethodMetrics:
    """The grpc_server_* family of one method, with every code at 0. `kind` is unary or server_stream."""

    def __init__(self, metrics: Metrics, kind: str, service: str, name: str) -> None:
        labels = (kind, service, name)
        self.started = metrics.started.labels(*labels)
        self.handled = {code: metrics.handled.labels(*labels, code) for code in CODES}
        self.received = metrics.received.labels(*labels)
        self.sent = metrics.sent.labels(*labels)
        self.handling = metrics.handling.labels(*labels)


class ModelMetrics:
    """The figures of one model version. `observe` takes the step loop's news, on the event loop."""

    def __init__(self, metrics: Metrics, name: str, version: int) -> None:
        labels = (name, str(version))
        self.ready = metrics.ready.labels(*labels)
        self.rows = metrics.rows.labels(*labels)
        self._waiting = metrics.waiting.labels(*labels)
        self._rows_in_use = metrics.rows_in_use.labels(*labels)
        self._finished = {outcome: metrics.finished.labels(*labels, outcome.value) for outcome in Outcome}
        self._cascades = {result: metrics.cascades.labels(*labels, result) for result in ("greedy", "beam")}
        self._source_tokens = metrics.source_tokens.labels(*labels)
        self._generated_tokens = metrics.generated_tokens.labels(*labels)
        self._queue_wait = metrics.queue_wait.labels(*labels)
        self._first_token = metrics.first_token.labels(*labels)
        self._per_token = metrics.per_token.labels(*labels)
        self._sequence = metrics.sequence.labels(*labels)
        self._step_rows = metrics.step_rows.labels(*labels)
        self._step_seconds = metrics.step_seconds.labels(*labels)
        self._step_overhead = metrics.step_overhead.labels(*labels)
        self._steps = [
            (metrics.steps.labels(*labels, most), metrics.steps_seconds.labels(*labels, most))
            for most in (str(1 << power) for power in range(MOST_ROWS.bit_length()))
        ]
        self._replays = metrics.replays.labels(*labels)
        self._answers = {
            source: metrics.answers.labels(*labels, source)
            for source in ("lexicon", "kept", "shared", "decoded")
        }
        self._answers_kept = metrics.answers_kept.labels(*labels)
        self._encode_rows = metrics.encode_rows.labels(*labels)
        self._encode_seconds = metrics.encode_seconds.labels(*labels)

    def watch(self, dispatcher: Dispatcher, answers: Answers[Any, Any]) -> None:
        """Reads the queues' lengths and the answers' counters whenever Prometheus asks."""
        self._waiting.set_function(lambda: dispatcher.waiting)
        self._rows_in_use.set_function(lambda: dispatcher.running)
        self._answers["lexicon"].follow(lambda: answers.listed)
        self._answers["kept"].follow(lambda: answers.hits)
        self._answers["shared"].follow(lambda: answers.shared)
        self._answers["decoded"].follow(lambda: answers.decoded)
        self._answers_kept.set_function(lambda: len(answers))

    def observe(self, news: News, ended: list[Submission]) -> None:
        """Counts what happened since the last news, and the sequences that ended."""
        for histogram, values in (
            (self._step_rows, news.step_rows),
            (self._step_seconds, news.step_seconds),
            (self._step_overhead, news.overhead_seconds),
            (self._encode_rows, news.encode_rows),
            (self._encode_seconds, news.encode_seconds),
        ):
            histogram.observe_all(values)
        for rows, seconds in zip(news.step_rows, news.step_seconds, strict=True):
            steps, time = self._steps[(rows - 1).bit_length()]
            steps.inc()
            time.inc(seconds)
        self._replays.inc(news.replays)
        for submission in ended:
            self._observe_ended(submission)

    def _observe_ended(self, submission: Submission) -> None:
        end, arrived = submission.ended, submission.arrived
        assert end is not None
        self._finished[end.outcome].inc()
        self._sequence.observe(end.finished - arrived)
        if not end.started:
            return
        self._source_tokens.inc(len(submission.source_ids))
        self._queue_wait.observe(end.started - arrived)
        if end.first_token:
            self._first_token.observe(end.first_token - arrived)
        if end.hypotheses:
            if submission.options.cascade_margin:
                self._cascades["beam" if end.escalated else "greedy"].inc()
            tokens = len(end.hypotheses[0].scores)
            self._generated_tokens.inc(tokens)
            self._per_token.observe((end.finished - end.started) / max(1, tokens))
