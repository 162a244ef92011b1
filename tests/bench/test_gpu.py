"""The run for a GPU runs here too, small, with the CPU in its part; and its drills see what is not kept."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from bench import answers, gpu, gpu_answers, gpu_drills, gpu_steps, servers
from bench.words import choose
from bundle.reader import Bundle, read_bundle
from service.device_engine import DeviceEngine
from tests.service.networks import exported

QUICK = ["--device", "cpu", "--quick"]


def run(tiny_models: Path, to: Path, *parts: str, words: Path | None = None) -> tuple[int, dict]:
    where = ["--words", str(words)] if words else []
    where += ["--models", str(tiny_models), "--bundle", str(tiny_models / "tiny" / "1"), "--to", str(to)]
    status = gpu.main([*QUICK, *where, *(word for part in parts for word in ("--only", part))])
    return status, json.loads((to / "gpu.json").read_text())


def test_steps_answers_and_batching(every_profile: Path, tmp_path: Path, capsys):
    status, figures = run(every_profile, tmp_path / "gpu", "steps", "batching", "words")
    assert status == 0
    for point in ("1.fp32", "6.fp32", "1.fp16", "6.fp16"):
        ways = {key.rpartition(".")[2] for key in figures if key.startswith(f"step.2x32/45.{point}.")}
        more = ["tf32"] if point.endswith("fp32") else []
        every = ("floor", "binding", "replay", "step", "plain", "torch", *more)
        assert ways == {f"{way}_us" for way in every}
    assert figures["words.fp32"]["words"] == 64
    assert figures["words.fp32"]["other_tokens"] == figures["words.fp32"]["largest_score_difference"] == 0
    assert figures["words.tf32"] == figures["words.fp32"], "without a GPU"
    assert figures["words.fp16"]["other_tokens"] <= 2 < 64 == figures["words.fp16"]["words"]
    assert 0 < figures["words.fp16"]["largest_score_difference"] < 0.1
    assert figures["batching.ratio"] > 0 and 0 < figures["batching.whole.rows_in_use"] < 0.8
    page = (tmp_path / "gpu" / "gpu.md").read_text()
    assert page in capsys.readouterr().out
    assert "| 2x32/45, 6, fp16 |" in page and "0 of 64 words" in page and str(tmp_path) not in page


def test_the_service_answers_as_it_does_alone(tiny_models: Path, tmp_path: Path):
    words = tmp_path / "words"
    words.write_text("".join(f"{word}\n" for word in choose(None, 64, 24)))
    status, figures = run(tiny_models, tmp_path, "service", words=words)
    assert status == 0 and figures["service.wrong_answers"] == figures["service.failed_calls"] == 0
    assert figures["service.mix.rps"] > 0 and figures["service.list256.words_s"] > 0
    assert "service.largest_score_difference" not in figures


def test_what_the_service_answered_wrongly_ends_with_status_1(tiny_models: Path, tmp_path: Path, monkeypatch):
    """Negative controls; and what was measured before a measure failed is kept."""

    def fails(bench) -> None:
        raise ZeroDivisionError

    for status, wrong, failing in ((0, 2, 0), (14, 0, 1)):

        def measure(bench, status=status) -> None:
            bench.figures |= {"mix.rps": 2.0, "mix.baseline_rps": 1.0}
            for word in ("chair", "lift"):
                bench.marks.mark(answers.Question(b"", word.encode()), 0, answers.framed(b""))
            if status:
                bench.marks.wrong, bench.marks.failed[status] = 0, 1

        monkeypatch.setattr(gpu.parts, "measure_mix", measure)
        monkeypatch.setattr(gpu.parts, "measure_lists", lambda bench: None)
        monkeypatch.setattr(answers, "differences", lambda *_: 1)
        found = run(tiny_models, tmp_path, "service")
        assert found[0] == 1 and found[1]["service.mix.ratio"] == 2
        assert (found[1]["service.wrong_answers"], found[1]["service.failed_calls"]) == (wrong, failing)
    monkeypatch.setattr(gpu.parts, "measure_lists", fails)
    assert "service.mix.rps" in run(tiny_models, tmp_path, "service")[1]


def test_every_drill_is_kept(tiny_models: Path, tmp_path: Path):
    status, figures = run(tiny_models, tmp_path, "drills")
    assert {name: seen for name, seen in figures["drills"].items() if not seen["kept"]} == {}
    assert len(figures["drills"]) == 6 and status == 0


def test_a_promise_that_is_not_kept_is_seen(tiny_models: Path, monkeypatch):
    """Negative controls: a device that never breaks, and a server that refuses nothing."""
    monkeypatch.setattr(gpu_drills, "CALLS", 2)
    assert not gpu_drills._goes_on(tiny_models, {"DRILL": "cpu"})["kept"]
    monkeypatch.setattr(gpu_drills.sys, "executable", "/bin/true")
    assert not gpu_drills._refuses("service", tiny_models, {})["kept"]


def test_a_server_that_does_nothing_keeps_no_promise_and_ends_no_run(
    tiny_models: Path, tmp_path: Path, monkeypatch
):
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(servers.sys, "executable", str(sleeper))
    monkeypatch.setattr(servers, "READY_SECONDS", 0.1)
    monkeypatch.setattr(gpu_drills, "REFUSE_SECONDS", 0.1)
    status, figures = run(tiny_models, tmp_path, "drills")
    assert status == 1 and "drills.failed" not in figures and len(figures["drills"]) == 6
    for seen in figures["drills"].values():
        assert not seen["kept"] and seen["failed"].split(":")[0] in ("TimeoutExpired", "NotReady")


def test_what_drills_found_is_kept_when_a_run_is_broken_off(tiny_models: Path, tmp_path: Path, monkeypatch):
    def broken_off(*_):
        yield "first", {"promised": "much", "kept": True}
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "run_drills", broken_off)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_models, tmp_path, "drills")
    assert json.loads((tmp_path / "gpu.json").read_text())["drills"]["first"]["kept"]
    assert "| first | much | True |" in (tmp_path / "gpu.md").read_text()


@pytest.mark.parametrize("failing", gpu.PARTS)
def test_a_part_that_fails_stops_no_other(tiny_models: Path, tmp_path: Path, monkeypatch, capsys, failing):
    for name in gpu.PARTS:
        one = 0 if name == failing else 1
        monkeypatch.setitem(gpu.PARTS, name, lambda _, name=name, one=one: iter([{f"fine.{name}": 1 / one}]))
    status, figures = run(tiny_models, tmp_path)
    assert status == 1
    assert [f"fine.{name}" in figures for name in gpu.PARTS] == [name != failing for name in gpu.PARTS]
    assert figures[f"{failing}.failed"].startswith("ZeroDivisionError")
    seen = capsys.readouterr()
    assert f"- {failing}.failed: ZeroDivisionError" in seen.out and "Traceback" in seen.err


def test_a_server_that_does_not_start_is_a_part_that_fails(tiny_models: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(servers.sys, "executable", "/bin/true")
    status, figures = run(tiny_models, tmp_path, "service", "words")
    assert status == 1
    assert figures["service.failed"].startswith("NotReady: service did not become ready")
    assert figures["words.fp32"]["words"] == 64


class Differs(DeviceEngine):
    """Broken on purpose: now and then the second best token."""

    def step(self, count):
        tokens, scores = super().step(count)
        return [token + (index == 1 and token > 2) for index, token in enumerate(tokens)], scores


def test_other_answers_are_counted_and_shown(tiny_bundle: Path):
    """Negative control."""
    bundle = read_bundle(tiny_bundle)
    words = ["chair", "lift", "snow", "hill", "ski"]
    found = gpu_answers.compare_words(bundle, Differs(bundle, "fp32", 4, "cpu"), words)
    assert found["words"] == 5 and found["other_tokens"] >= 1
    first = found["differences"][0]
    assert first["word"] in words and first["cpu"] != first["device"] and first["step"] >= 0


@pytest.mark.parametrize(
    ("figures", "is_broken"),
    [
        ({"words.fp32": {"words": 100, "other_tokens": 5}}, False),
        ({"words.fp32": {"words": 100, "other_tokens": 6}}, True),
        ({"words.failed": "ValueError: no"}, False),  # which is told apart
        ({"company.beams": 100, "company.other_beams": 5, "company.other_tokens": 0}, False),
        ({"company.beams": 100, "company.other_beams": 6}, True),
        ({"company.other_tokens": 1}, True),
    ],
)
def test_more_than_a_near_tie_now_and_then_breaks_a_run(figures: dict, is_broken: bool):
    assert gpu._broken(figures) is is_broken


def test_company_and_beams_are_compared(tmp_path_factory):
    bundle, _ = exported(tmp_path_factory.getbasetemp(), ("lstm", "general", 2), profiles="fp32")
    right = gpu_answers.compare_company(bundle, warm(DeviceEngine, bundle), 60)
    assert right["company.trials"] >= 60 and right["company.beams"] == gpu_answers.BEAMS
    assert right["company.other_tokens"] == right["company.other_scores"] == right["company.other_beams"] == 0
    wrong = gpu_answers.compare_company(bundle, warm(LeavesMemory, bundle), 60)
    assert wrong["company.other_scores"] and wrong["company.other_beams"], "negative control"


class LeavesMemory(DeviceEngine):
    """Broken on purpose: rows that move leave behind what they look back on."""

    def __init__(self, *arguments, **named) -> None:
        super().__init__(*arguments, **named)
        self._state._copy_memory = self._state.memory._copy_rows = lambda *_: None


def warm(kind: type[DeviceEngine], bundle: Bundle) -> DeviceEngine:
    engine = kind(bundle, "fp32", 16, "cpu")
    engine.warm_up()
    return engine


def test_pytorchs_cuda_is_not_said_to_be_the_drivers(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A GPU")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert gpu.about(argparse.Namespace(device="cuda"))["GPU"] == "A GPU; PyTorch for CUDA 13.0"


def test_a_machine_without_a_gpu_is_described_too():
    found = gpu.about(argparse.Namespace(device="cuda"))["GPU"]
    assert found.startswith("none that PyTorch sees: ") or torch.cuda.is_available()


def test_a_machine_without_a_gpu_says_so(tmp_path: Path):
    with pytest.raises(SystemExit):
        gpu.main(["--device", "tpu", "--to", str(tmp_path)])


def test_the_floor_of_fp16_is_half_of_the_bytes_or_its_own_rate():
    rates = {"rate.bytes_s": 1e9, "rate.fp32.flops_s": 1e9, "rate.fp16.flops_s": 4e9}
    few, many = (
        {p: gpu_steps.floor_us([(64, 256)], rows, rates, p) for p in ("fp32", "fp16")} for rows in (1, 512)
    )
    assert few["fp16"] == few["fp32"] / 2
    assert many["fp16"] == many["fp32"] / 4
