"""The locks: they agree with each other and with what they were made from, and anyone can install them."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "requirements"
LOCKS = ["serving-cpu", "serving-gpu", "training", "dev", "bench-gpu"]
CUDA = r"cuda-|nvidia-|triton$"  # packages that bring parts of CUDA
PROGRAMS = {
    "serving-cpu": ["bundle", "chairlift", "deploy", "service"],
    "training": ["bundle", "training", "export"],
    "dev": ["bench", "tests"],
}
RIVALS = {"mosec", "pytriton"}  # servers that the bench compares with: whoever compares installs them
NEVER_SERVED = {"torch", "lightning-fabric", "onnx", "pytest", "grpcio-tools"}


def requirements(text: str) -> dict[str, Requirement]:
    """The requirements of a requirements file by name; options, hashes and comments left out."""
    lines = (re.sub(r"(\s#.*|\s*\\)$", "", line) for line in text.splitlines())
    parsed = [Requirement(line) for line in lines if re.match(r"[A-Za-z]", line)]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def asked(name: str) -> dict[str, Requirement]:
    """What `name`.in asks for, with the files that it includes."""
    text = (FOLDER / f"{name}.in").read_text()
    found = requirements(text)
    for included in re.findall(r"^-r (.+)\.in$", text, re.MULTILINE):
        found |= asked(included)
    return found


def locked(name: str) -> dict[str, Requirement]:
    return requirements((FOLDER / f"{name}.txt").read_text())


def disagreements(locks: list[dict[str, Requirement]]) -> set[str]:
    """The packages that two of the locks pin at different versions."""
    pins: dict[str, set[str]] = {}
    for lock in locks:
        for name, requirement in lock.items():
            pins.setdefault(name, set()).add(str(requirement.specifier))
    return {name for name, versions in pins.items() if len(versions) > 1}


def strays(text: str) -> list[str]:
    """Lines that only the machine on which the lock was made understands."""
    return re.findall(r"^.*(?:://|file:|--(?:extra-)?index|--find-links|\s/\w+/).*$", text, re.MULTILINE)


def test_the_locks_agree() -> None:
    """But for CUDA's parts: PyTorch wants those that it was built with, and serving takes newer ones."""
    found = disagreements([locked(name) for name in LOCKS])
    assert [name for name in found if not re.match(CUDA, name)] == []


def test_locks_that_disagree_are_seen() -> None:
    assert disagreements([requirements("a==1\nb==1"), requirements("b==2 \\\n    --hash=sha256:0")]) == {"b"}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_what_was_asked(name: str) -> None:
    pins = locked(name)
    for package, requirement in asked(name).items():
        (pin,) = pins[package].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version), f"{package} {pin.version} is not {requirement}"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_place(name: str) -> None:
    assert strays((FOLDER / f"{name}.txt").read_text()) == []


def test_places_in_a_lock_are_seen() -> None:
    planted = [
        "--find-links /srv/wheels",
        "torch @ file:///srv/torch.whl",
        "--index-url https://packages.test/",
    ]
    assert strays("\n".join(["numpy==2.4.6  # via onnx", *planted])) == planted


@pytest.mark.parametrize("name", ["serving-cpu", "serving-gpu"])
def test_a_serving_lock_has_hashes_and_nothing_that_makes_models(name: str) -> None:
    text = (FOLDER / f"{name}.txt").read_text()
    assert set(locked(name)) & NEVER_SERVED == set()
    assert len(re.findall(r"\\\n +--hash=sha256:[^\n]+\n(?! +--hash)", text)) == len(locked(name))


def test_only_one_onnxruntime_in_a_lock() -> None:
    for name in LOCKS:
        assert len(locked(name).keys() & {"onnxruntime", "onnxruntime-gpu"}) == 1


def test_training_leaves_the_cuda_packages_to_the_wheel_of_torch() -> None:
    for name in ("training", "dev"):
        assert [p for p in locked(name) if re.match(CUDA, p)] == []
    assert "nvidia-cudnn-cu13" in locked("bench-gpu"), "there it is the GPU's"


def imported(source: str) -> set[str]:
    """The top-level names of what a module imports, ours and the standard library's left out."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    ours = {name for folders in PROGRAMS.values() for name in folders}
    return names - ours - sys.stdlib_module_names


def unasked(sources: list[str], asked_for: set[str]) -> set[str]:
    """The imported names that no asked-for package provides."""
    providers = packages_distributions()
    names = {name for source in sources for name in imported(source)}
    return {n for n in names if not {canonicalize_name(d) for d in providers.get(n, [])} & asked_for}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_imported_is_asked_for(name: str) -> None:
    files = [path for folder in PROGRAMS[name] for path in (ROOT / folder).rglob("*.py")]
    sources = [path.read_text(encoding="utf-8") for path in files]
    assert unasked(sources, set(asked(name))) - RIVALS == set()


def test_an_import_that_was_not_asked_for_is_seen() -> None:
    assert unasked(["import os, numpy\nfrom pytest import mark"], {"numpy"}) == {"pytest"}
