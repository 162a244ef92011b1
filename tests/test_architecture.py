"""The house is as it is drawn: the README's map, what the service loads, and imports that do no work."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEVER_SERVED = {"torch", "onnx", "lightning_fabric", "training", "export"}
WORK = {
    "os.fork",
    "os.posix_spawn",
    "socket.bind",
    "socket.connect",
    "subprocess.Popen",
    "threading.Thread.start",
}
PROGRAMS = ["chairlift", "bundle", "service", "training", "export", "bench"]

# Prints each kind of work that importing argv[1] does, then each top-level module that it loads.
WATCH = """
import sys, threading
sys.path[0] = sys.argv[2]
work = []
sys.addaudithook(lambda event, _: work.append(event))
start = threading.Thread.start
threading.Thread.start = lambda thread: work.append("threading.Thread.start") or start(thread)
__import__(sys.argv[1])
print(" ".join(sorted(set(work))))
print(" ".join(sorted({name.partition(".")[0] for name in list(sys.modules)})))
"""


def mapped_paths(readme: str) -> list[str]:
    """The paths in the tree drawn in the text block after `<!-- map -->`.

    A line is two spaces for every folder around it, a name (a folder's ends in `/`), and a remark.
    """
    block = re.search(r"<!-- map -->\s*```text\n(.*?)```", readme, re.DOTALL)
    assert block, "README.md has no text block after <!-- map -->"
    paths: list[str] = []
    folders: list[str] = []
    for line in block[1].splitlines():
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        assert depth <= len(folders), f"in no folder: {line!r}"
        name = line.split()[0]
        paths.append("".join(folders[:depth]) + name)
        folders[depth:] = [name] if name.endswith("/") else []
    return paths


def wrong_in_map(readme: str, root: Path, top: set[str]) -> list[str]:
    """What the map names and is not there, and what of `top` it does not name."""
    paths = mapped_paths(readme)
    absent = [p for p in paths if not ((root / p).is_dir() if p.endswith("/") else (root / p).is_file())]
    return absent + sorted(top - {path.partition("/")[0] for path in paths})


def seen_at_import(module: str, root: Path) -> tuple[set[str], set[str]]:
    """The work done and the top-level modules loaded by importing `module` in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH, module, str(root)], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    work, loaded = done.stdout.splitlines()
    return set(work.split()) & WORK, set(loaded.split())


def test_the_map_in_the_readme_is_true() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    assert wrong_in_map((ROOT / "README.md").read_text(encoding="utf-8"), ROOT, top) == []


def test_a_map_that_is_not_true_is_seen(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "door.py").touch()
    (tmp_path / "garden").mkdir()
    readme = "<!-- map -->\n```text\nhouse/     rooms\n  door.py  opens\n  roof.py  leaks\n```\n"
    assert wrong_in_map(readme, tmp_path, {"house", "garden"}) == ["house/roof.py", "garden"]


def test_the_service_loads_nothing_that_makes_models() -> None:
    _, loaded = seen_at_import("service.__main__", ROOT)
    assert "grpc" in loaded, "the probe saw nothing"
    assert loaded & NEVER_SERVED == set()


def test_only_the_engine_process_computes() -> None:
    """The front loads no ONNX Runtime and no arrays; what decodes loads no gRPC."""
    _, front = seen_at_import("service.__main__", ROOT)
    _, engine = seen_at_import("service.engine_process", ROOT)
    assert "grpc" in front and "onnxruntime" in engine, "the probe saw nothing"
    assert front & {"numpy", "onnxruntime"} == set()
    assert engine & {"grpc", "google", "chairlift", "prometheus_client", *NEVER_SERVED} == set()


def test_a_service_that_loads_torch_is_seen(tmp_path: Path) -> None:
    (tmp_path / "torch.py").touch()
    (tmp_path / "culprit.py").write_text("import torch\n")
    _, loaded = seen_at_import("culprit", tmp_path)
    assert loaded & NEVER_SERVED == {"torch"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_importing_a_program_does_no_work(program: str) -> None:
    work, _ = seen_at_import(program if program == "bundle" else f"{program}.__main__", ROOT)
    assert work == set()


@pytest.mark.parametrize(
    ("code", "work"),
    [
        ("import socket\nsocket.socket().bind(('127.0.0.1', 0))\n", "socket.bind"),
        ("import threading\nthreading.Thread(target=int).start()\n", "threading.Thread.start"),
        ("import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''])\n", "subprocess.Popen"),
    ],
    ids=["socket", "thread", "process"],
)
def test_work_at_import_is_seen(tmp_path: Path, code: str, work: str) -> None:
    (tmp_path / "culprit.py").write_text(code)
    seen, _ = seen_at_import("culprit", tmp_path)
    assert work in seen
