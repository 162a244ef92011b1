"""Figures are of what happened: the right times, counts and labels, each once."""

import pytest
from prometheus_client import CollectorRegistry

from service.answers import Answers
from service.dispatcher import Submission
from service.hypothesis import Hypothesis, Outcome
from service.messages import Ended, News
from service.metrics import Metrics, ModelMetrics
from service.options import Options
from tests.service.lift import FAR

MODEL = {"model": "m", "version": "3"}


class Figures:
    """A model's figures, and what Prometheus would be told of them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.model = ModelMetrics(Metrics(self.registry), "m", 3)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {**MODEL, **labels})

    def of(self, histogram: str) -> tuple[float | None, float | None]:
        """Observations, and their sum."""
        return self(f"{histogram}_count"), self(f"{histogram}_sum")


@pytest.fixture
def figures() -> Figures:
    return Figures()


def submission(ended: Ended, source: int = 5, **options) -> Submission:
    """One that arrived at 100 s, with a source of so many tokens."""
    found = Submission([2] * source, Options(9, **options), FAR, lambda _: None)
    found.arrived, found.ended = 100.0, ended
    return found


def answer(tokens: int) -> list[Hypothesis]:
    """Of so many tokens, and <E>."""
    return [Hypothesis([3] * tokens, [-0.5] * (tokens + 1), "eos", -1.0, -1.0)]


def test_a_sequence_is_timed_from_its_arrival(figures):
    ended = Ended(1, Outcome.EOS, answer(3), started=102.0, first_token=103.0, finished=110.0)
    figures.model.observe(News(ended=[ended]), [submission(ended)])
    assert figures.of("chairlift_queue_wait_seconds") == (1, 2.0)
    assert figures.of("chairlift_time_to_first_token_seconds") == (1, 3.0)
    assert figures.of("chairlift_sequence_seconds") == (1, 10.0)
    assert figures.of("chairlift_time_per_token_seconds") == (1, 8.0 / 4)
    assert figures("chairlift_source_tokens_total") == 5
    assert figures("chairlift_generated_tokens_total") == 4
    assert figures("chairlift_sequences_finished_total", reason="eos") == 1
    assert figures("chairlift_sequences_finished_total", reason="length") == 0


def test_who_never_had_a_row_was_neither_encoded_nor_timed_in_it(figures):
    ended = Ended(1, Outcome.DEADLINE, [], started=0.0, first_token=0.0, finished=101.0)
    figures.model.observe(News(ended=[ended]), [submission(ended)])
    assert figures.of("chairlift_sequence_seconds") == (1, 1.0)
    assert figures("chairlift_sequences_finished_total", reason="deadline") == 1
    for histogram in ("queue_wait", "time_to_first_token", "time_per_token"):
        assert figures.of(f"chairlift_{histogram}_seconds") == (0, 0)
    assert figures("chairlift_source_tokens_total") == figures("chairlift_generated_tokens_total") == 0


@pytest.mark.parametrize(("escalated", "result"), [(False, "greedy"), (True, "beam")])
def test_cascades_are_counted_by_what_decoded_them(figures, escalated, result):
    ended = Ended(1, Outcome.EOS, answer(1), 101.0, 102.0, 103.0, escalated)
    plain = Ended(2, Outcome.EOS, answer(1), 101.0, 102.0, 103.0)
    cascade = submission(ended, beam_size=3, cascade_margin=0.5)
    figures.model.observe(News(ended=[ended, plain]), [cascade, submission(plain)])
    found = {name: figures("chairlift_cascades_total", result=name) for name in ("greedy", "beam")}
    assert found == {"greedy": 0, "beam": 0} | {result: 1}


def test_steps_and_encoder_runs_are_what_the_engine_says(figures):
    news = News(
        step_rows=[1, 5, 8],
        step_seconds=[0.1, 0.2, 0.4],
        encode_rows=[3, 4],
        encode_seconds=[0.5, 0.25],
        overhead_seconds=[0.01],
        replays=2,
    )
    for _ in range(2):
        figures.model.observe(news, [])
    assert figures.of("chairlift_step_rows") == (6, 28)
    assert figures.of("chairlift_step_seconds") == (6, pytest.approx(1.4))
    assert figures.of("chairlift_encode_rows") == (4, 14)
    assert figures.of("chairlift_encode_seconds") == (4, pytest.approx(1.5))
    assert figures.of("chairlift_step_overhead_seconds") == (2, pytest.approx(0.02))
    assert figures("chairlift_graph_replays_total") == 4
    by_rows = {
        rows: (
            figures("chairlift_steps_total", rows=rows),
            figures("chairlift_steps_seconds_total", rows=rows),
        )
        for rows in ("1", "2", "4", "8", "16")
    }
    assert by_rows == {
        "1": (2, pytest.approx(0.2)),
        "8": (4, pytest.approx(1.2)),
        **dict.fromkeys(("2", "4", "16"), (0, 0)),
    }


def test_queues_and_answers_are_looked_at_when_prometheus_asks(figures):
    class Dispatcher:
        waiting, running, inside = 7, 5, 12

    answers = Answers(lambda _: None, max_entries=10, max_bytes=1000)
    figures.model.watch(Dispatcher(), answers)
    answers.listed, answers.hits, answers.shared, answers.decoded = 1, 2, 3, 4
    assert (figures("chairlift_sequences_waiting"), figures("chairlift_rows_in_use")) == (7, 5)
    found = [
        figures("chairlift_answers_total", source=name) for name in ("lexicon", "kept", "shared", "decoded")
    ]
    assert found == [1, 2, 3, 4]
    assert figures("chairlift_answers_kept") == 0


def test_a_model_is_described_once_at_a_time(figures):
    metrics = Metrics(registry := CollectorRegistry())
    metrics.describe("m", 3, device="cuda", profile="fp32", digest="d1")
    metrics.describe("m", 3, device="cpu")
    metrics.describe("m", 3, digest="d2")
    (info,) = [s for metric in registry.collect() for s in metric.samples if s.name == "chairlift_model_info"]
    assert info.labels == {**MODEL, "device": "cpu", "profile": "fp32", "digest": "d2"} and info.value == 1


def test_refusals_are_there_before_the_first_one():
    Metrics(registry := CollectorRegistry())
    for reason in ("QUEUE_FULL", "DEADLINE_UNREACHABLE", "DRAINING", "DEVICE_LOST"):
        assert registry.get_sample_value("chairlift_rejected_total", {"reason": reason}) == 0
