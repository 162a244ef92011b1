"""The run for a GPU runs here too, small, with the CPU in its part; and its drills see what is not kept."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from bench import gpu, gpu_answers, gpu_drills, gpu_steps, servers
from bench.words import choose
from bundle.reader import read_bundle
from service.device_engine import DeviceEngine

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
    assert status == 0 and figures["service.wrong_answers"] == 0
    assert figures["service.mix.rps"] > 0 and figures["service.list256.words_s"] > 0
    assert "service.largest_score_difference" not in figures


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


def test_pytorchs_cuda_is_not_said_to_be_the_drivers(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A GPU")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert gpu.about(argparse.Namespace(device="cuda"))["GPU"] == "A GPU; PyTorch for CUDA 13.0"


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
