"""Teachers: what they expect of each token, what a student makes of it, and which runs may teach."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from tests.training.short_runs import train
from training import teaching
from training.batches import IGNORED, Batch, Lesson, pick
from training.checkpoint import load_checkpoint
from training.examples import Examples
from training.model import Seq2Seq
from training.objective import add_gradients
from training.recipe import Model, Training
from training.start import best_digest
from training.teaching import lessons_key, load_lessons, save_lessons, take_lessons
from training.trainer import Trainer

LETTERS, EMITTED = 9, 12  # tokens of the source; V
CHANCE = np.random.default_rng(5)
pytestmark = pytest.mark.usefixtures("no_curves")


def network(seed: int, size: int = 8) -> Seq2Seq:
    torch.manual_seed(seed)
    attention = "general" if size > 8 else "none"
    return Seq2Seq(LETTERS, EMITTED + 1, Model(embedding_size=6, hidden_size=size, attention=attention))


def some_examples(count: int = 23) -> Examples:
    source_lengths, target_lengths = CHANCE.integers(1, 6, count), CHANCE.integers(1, 5, count)
    source, target = CHANCE.integers(2, LETTERS, (count, 5)), CHANCE.integers(1, EMITTED, (count, 4))
    source[np.arange(5) >= source_lengths[:, None]] = 0
    target[np.arange(4) >= target_lengths[:, None]] = 0
    return Examples(source, source_lengths, target, target_lengths, np.arange(count))


@pytest.mark.parametrize("kept", [3, EMITTED])
def test_lessons_are_the_likeliest_of_the_teachers_mean(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each example as it is alone, whoever shared its batch."""
    monkeypatch.setattr(teaching, "KEPT", kept)
    monkeypatch.setattr(teaching, "BATCH", 7)
    teachers, examples = [network(1), network(2, size=16)], some_examples()
    lessons = take_lessons(teachers, examples, "cpu")
    indices = np.array([20, 3, 11])
    batch = pick(examples, indices, EMITTED, lessons)
    assert batch.lesson is not None
    for row, index in enumerate(indices):
        alone = pick(examples, np.array([index]), EMITTED)
        with torch.inference_mode():
            said = [teacher(alone.source, alone.lengths, alone.read).softmax(2)[0] for teacher in teachers]
        expected, ids = ((said[0] + said[1]) / 2).topk(kept, dim=1)  # [T, K]
        length = len(expected)
        assert torch.equal(batch.lesson.tokens[row, :length], ids)
        shares = batch.lesson.shares[row]
        torch.testing.assert_close(shares[:length], expected / expected.sum(1, True), rtol=0, atol=5e-4)
        assert shares[length:].eq(0).all()


def gradients(student: Seq2Seq, batch: Batch, weight: float) -> list[Tensor]:
    options = Training(epochs=1, patience_epochs=1, teacher_weight=weight, label_smoothing=0.1)
    student.zero_grad()
    add_gradients(Fabric(accelerator="cpu"), student, [batch], options, 0.0)
    return [parameter.grad.clone() for parameter in student.parameters() if parameter.grad is not None]


def length_of(gradient: list[Tensor]) -> float:
    return float(torch.cat([part.flatten() for part in gradient]).norm())


def test_a_student_that_expects_what_its_teachers_do_learns_nothing_from_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(teaching, "KEPT", EMITTED)
    student, examples, indices = network(1), some_examples(), np.arange(10)
    own, other = (
        pick(examples, indices, EMITTED, take_lessons([teacher], examples, "cpu"))
        for teacher in (student, network(2))
    )
    assert length_of(gradients(student, own, 1.0)) < 1e-3 * length_of(gradients(student, own, 0.0))
    assert length_of(gradients(student, other, 1.0)) > 0.1 * length_of(gradients(student, other, 0.0))


def test_labels_and_teachers_share_the_loss() -> None:
    student, examples, indices = network(1), some_examples(), np.arange(10)
    taught = pick(examples, indices, EMITTED, take_lessons([network(2)], examples, "cpu"))
    assert taught.labels.eq(IGNORED).any()
    labels, both, teachers = (gradients(student, taught, weight) for weight in (0.0, 0.25, 1.0))
    alone = gradients(student, replace(taught, lesson=None), 0.25)
    for plain, zero, mixed, full in zip(alone, labels, both, teachers, strict=True):
        torch.testing.assert_close(zero, plain)
        torch.testing.assert_close(mixed, 0.75 * zero + 0.25 * full)


def test_a_lesson_that_is_certain_is_a_label() -> None:
    student, examples = network(1), some_examples()
    batch = pick(examples, np.arange(10), EMITTED)
    due = batch.labels.ne(IGNORED).unsqueeze(2)
    certain = Lesson(batch.labels.clamp(min=0).unsqueeze(2), due.float())
    options = Training(epochs=1, patience_epochs=1, teacher_weight=1.0)
    losses = [
        add_gradients(Fabric(accelerator="cpu"), student, [one], options, 0.0)
        for one in (batch, replace(batch, lesson=certain))
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


# Runs


@pytest.fixture(scope="module")
def teacher(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("teaching") / "teacher"
    assert train(tiny_recipe, folder) == 0
    return folder


def weights(run: Path) -> dict[str, Tensor]:
    return load_checkpoint(run / "checkpoint.safetensors").group("model")


def test_a_taught_run_is_another_one_and_says_who_taught_it(
    teacher: Path, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever its architecture; and the same command goes on with it, no other."""
    smaller = ("--set", "model.hidden_size=12", "--set", "model.attention=none")
    taught = (*smaller, "--teacher", str(teacher), "--teacher", str(teacher))
    assert train(tiny_recipe, tmp_path / "taught", *taught) == 0
    assert train(tiny_recipe, tmp_path / "alone", *smaller) == 0
    one, other = weights(tmp_path / "taught"), weights(tmp_path / "alone")
    assert one.keys() == other.keys()
    assert any(not torch.equal(one[name], other[name]) for name in one)
    digest = best_digest(teacher)
    assert load_checkpoint(tmp_path / "taught/best.safetensors").recipe.training.taught_by == (digest, digest)
    audit = json.loads((tmp_path / "taught/audit.json").read_bytes())
    assert [teacher["sha256"] for teacher in audit["taught_by"]] == [digest, digest]
    assert "started_from" not in audit
    assert train(tiny_recipe, tmp_path / "taught", *taught) == 0
    assert "this run has ended; nothing to do" in capsys.readouterr().err
    assert train(tiny_recipe, tmp_path / "taught", *taught[:-2]) == 2
    assert "holds a run of another recipe" in capsys.readouterr().err


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sends SIGTERM before a function's n-th call, once; where nobody heeds it, nothing happens."""

    def signal_before(count: int, owner: Any, name: str) -> None:
        real, calls = getattr(owner, name), 0

        def called(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == count:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(*arguments)

        monkeypatch.setattr(owner, name, called)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield signal_before
    signal.signal(signal.SIGTERM, before)


def test_a_taught_run_that_was_stopped_ends_with_the_same_bits(
    teacher: Path,
    tiny_recipe: Path,
    tmp_path: Path,
    signalled: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """While teachers are asked, before there is anything to keep; and in a step: they are not asked again."""
    monkeypatch.setattr(teaching, "BATCH", 20)
    taught = ("--teacher", str(teacher), "--from", str(teacher))
    assert train(tiny_recipe, tmp_path / "whole", *taught) == 0
    parts = tmp_path / "parts"
    signalled(2, teaching, "pick")
    assert train(tiny_recipe, parts, *taught) == 0
    assert "stopped at step 0; the same command goes on from there" in capsys.readouterr().out
    assert not {"checkpoint.safetensors", "lessons.safetensors"} & {path.name for path in parts.iterdir()}
    signalled(3, Trainer, "_step")
    assert train(tiny_recipe, parts, *taught) == 0
    assert load_checkpoint(parts / "checkpoint.safetensors").state["progress"]["step"] == 3
    monkeypatch.setattr("training.trainer.take_lessons", None)
    assert train(tiny_recipe, parts, *taught) == 0
    one, other = weights(tmp_path / "whole"), weights(parts)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_lessons_are_kept_for_what_they_follow_from(tmp_path: Path) -> None:
    path, examples, others = tmp_path / "lessons.safetensors", some_examples(), some_examples()
    lessons = take_lessons([network(1)], examples, "cpu")
    key = lessons_key(["1"], examples, "32-true")
    assert load_lessons(path, key) is None
    assert lessons is not None
    save_lessons(path, lessons, key)
    found = load_lessons(path, lessons_key(("1",), examples, "32-true"))
    assert found is not None
    assert np.array_equal(found.first, lessons.first)
    assert torch.equal(found.tokens, lessons.tokens)
    assert torch.equal(found.shares, lessons.shares)
    other_keys = [
        lessons_key(["2"], examples, "32-true"),
        lessons_key(["1"], others, "32-true"),
        lessons_key(["1"], examples, "bf16-mixed"),
    ]
    assert [load_lessons(path, other) for other in other_keys] == [None] * 3
    path.write_bytes(path.read_bytes()[:-1])
    assert load_lessons(path, key) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ('data.alphabet="abcdefghijxy"', "its source vocabulary lacks ['x', 'y']"),
        ("source.lowercase=true", "its [source] is another"),
        ('training.taught_by=["0"]', "training.taught_by: other models than --teacher names"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: str,
    reason: str,
    teacher: Path,
    tiny_recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(tiny_recipe, tmp_path / "run", "--teacher", str(teacher), "--set", change) == 2
    assert reason in capsys.readouterr().err


def test_teachers_share_their_vocabularies(
    teacher: Path, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tiny_recipe, tmp_path / "other", "--set", 'data.alphabet="abcdefghijk"') == 0
    teachers = ("--teacher", str(teacher), "--teacher", str(tmp_path / "other"))
    assert train(tiny_recipe, tmp_path / "run", *teachers) == 2
    assert f"has another vocabulary than --teacher {teacher}" in capsys.readouterr().err
