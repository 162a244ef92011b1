"""The real onnxruntime-gpu where a GPU, its driver or a library is missing: it is said, or fallen back from.

The driver is a small library of ours that says what a real one would.
"""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bundle.reader import read_bundle
from chairlift import Client

PACKAGE = Path(__file__).parents[2] / "build" / "onnxruntime-gpu"
DRIVER = """
int cuInit(unsigned flags) { return STATUS; }
int cuDeviceGetCount(int *count) { *count = GPUS; return 0; }
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
"""

pytestmark = [
    pytest.mark.skipif(not (PACKAGE / ".stamp").is_file(), reason="`make gpu-package` fetches it"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]


@pytest.fixture
def front() -> str:
    return "auto"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch):
    """Puts the package, and a driver that says so, where a server started from here finds them."""

    def install(status: int = 0, gpus: int = 1, version: int = 13000) -> None:
        definitions = [f"-DSTATUS={status}", f"-DGPUS={gpus}", f"-DVERSION={version}"]
        command = ["cc", "-shared", "-x", "c", "-", *definitions, "-o", str(tmp_path / "libcuda.so.1")]
        subprocess.run(command, input=DRIVER, text=True, check=True)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
        monkeypatch.setenv("PYTHONPATH", str(PACKAGE))

    return install


def has_cuda() -> bool:
    try:
        ctypes.CDLL("libcublasLt.so.13")
    except OSError:
        return False
    return True


def test_the_package_is_the_real_one(driver):
    driver()
    code = "import onnxruntime; print(onnxruntime.__file__, *onnxruntime.get_available_providers())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.startswith(str(PACKAGE)) and "CUDAExecutionProvider" in found.split()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"status": 100}, "the NVIDIA driver finds no GPU (CUDA error 100)"),
        ({"gpus": 0}, "the NVIDIA driver finds no GPU (CUDA error 0)"),
        ({"version": 12040}, "the NVIDIA driver speaks CUDA 12.4; CUDA 13 and cuDNN 9 are needed"),
        pytest.param(
            {},
            "libcublasLt.so.13 does not load; CUDA 13 and cuDNN 9 are needed",
            marks=pytest.mark.skipif(has_cuda(), reason="it does"),
        ),
    ],
)
def test_cuda_refuses_and_says_what_is_missing(serve, driver, said, words):
    driver(**said)
    server = serve("--device", "cuda")
    assert server.exit_status() == 2
    [line] = server.lines
    assert line.startswith("service: model tiny/1: device cuda: ") and words in line


def test_auto_serves_on_the_cpu_and_counts_it(serve, driver, tiny_bundle):
    driver(gpus=0)
    server = serve("--device", "auto").ready()
    assert "finds no GPU" in server.logged("falling back to the CPU")["reason"]
    case = read_bundle(tiny_bundle).golden.cases[0]
    with Client(server.listen) as client:
        [answer] = client.generate([case.text])
    assert list(answer.token_ids) == [i for i in case.target_ids if i != 0]
    counted = {
        sample.name: sample.value
        for family in text_string_to_metric_families(server.metrics())
        for sample in family.samples
    }
    assert counted["chairlift_device_fallback_total"] == 1
