"""CUDA is taken where it works, and what is missing is said: the package, the driver, a GPU, a library."""

import ctypes
import logging
import re
from pathlib import Path

import pytest

from bundle.errors import BundleError
from bundle.reader import Bundle, read_bundle
from service import opening, providers
from service.device_engine import DeviceEngine
from service.device_sessions import TF32_TOLERANCE, DeviceSessions
from service.engine import Engine
from service.errors import StartError
from service.opening import open_beside, open_engine
from service.providers import CUDA, CUDNN, LEAST_CUDA, check_cuda, open_session

LIBRARY = "libonnxruntime_providers_cuda.so"


class Driver:
    """NVIDIA's, as far as it is asked."""

    def __init__(self, status: int = 0, gpus: int = 1, version: int = 13000) -> None:
        self._status, self._gpus, self._version = status, gpus, version

    def cuInit(self, _):  # noqa: N802
        return self._status

    def cuDeviceGetCount(self, found):  # noqa: N802
        found._obj.value = self._gpus
        return 0

    def cuDriverGetVersion(self, found):  # noqa: N802
        found._obj.value = self._version
        return 0


def machine(monkeypatch, driver: Driver | None, missing: str = "", packaged: bool = True) -> None:
    """What this machine seems to have."""

    def load(name):
        if name == "libcuda.so.1":
            if driver is None:
                raise OSError("libcuda.so.1: cannot open shared object file: No such file or directory")
            return driver
        assert name == CUDNN or Path(name).name == LIBRARY
        if missing and (name == CUDNN) == (missing == CUDNN):  # all others are loaded with the provider
            raise OSError(f"{missing}: cannot open shared object file: No such file or directory")
        return object()

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(providers.ort, "preload_dlls", lambda: print("a line that no log wants"))
    if packaged:
        monkeypatch.setattr(providers.ort, "get_available_providers", lambda: [CUDA])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"driver": None, "packaged": False}, "no CUDA provider; install requirements/serving-gpu.txt"),
        ({"driver": None}, r"no NVIDIA driver here \(libcuda.so.1 does not load\)"),
        ({"driver": Driver(status=100)}, r"finds no GPU \(CUDA error 100\)"),
        ({"driver": Driver(gpus=0)}, "finds no GPU"),
        ({"driver": Driver(version=12080)}, "speaks CUDA 12.8; CUDA 13 and cuDNN 9 are needed"),
        ({"driver": Driver(), "missing": "libcublasLt.so.13"}, "libcublasLt.so.13 does not load; CUDA 13"),
        ({"driver": Driver(), "missing": f"/opt/{LIBRARY}"}, f"cuda: {LIBRARY} does not load"),
        ({"driver": Driver(), "missing": CUDNN}, r"cuda: libcudnn\.so\.9 does not load; CUDA 13 and cuDNN 9"),
    ],
)
def test_what_is_missing_is_said(bundle: Bundle, monkeypatch, capsys, given, said):
    machine(monkeypatch, **given)
    with pytest.raises(StartError, match=said):
        open_engine(bundle, "fp32", 4, "cuda", 1)
    engine, why = open_engine(bundle, "", 4, "auto", 1)
    assert isinstance(engine, Engine) and engine.profile.name == "int8"
    with pytest.raises(StartError) as refusal:
        check_cuda()
    assert why == str(refusal.value)
    assert capsys.readouterr().out == ""


def test_a_sound_machine_passes(monkeypatch):
    """Negative control."""
    machine(monkeypatch, Driver())
    check_cuda()


def test_a_session_that_fell_back_in_silence_is_refused(bundle: Bundle, monkeypatch):
    """Where CUDA does not start, ONNX Runtime makes a session on the CPU and only logs it."""

    class FellBack:
        def __init__(self, *_, **__) -> None:
            pass

        def get_providers(self):
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(providers.ort, "InferenceSession", FellBack)
    with pytest.raises(StartError, match="could not start CUDA; CUDA 13 and cuDNN 9 are needed"):
        open_session(b"", "decoder.fp32.onnx", "cuda")


@pytest.mark.parametrize(
    ("starts", "said"),
    [(CUDA, "CUDA would leave .*LSTM.* to the CPU"), ("CPUExecutionProvider", "RuntimeError")],
)
def test_operators_that_cuda_lacks_are_named(bundle: Bundle, monkeypatch, caplog, starts, said):
    """Or the first error's kind; what it says is for the log alone."""
    caplog.set_level(logging.WARNING)
    real, asked = providers.ort.InferenceSession, []

    def session(model, options, providers, enable_fallback=1):
        assert not enable_fallback, "a second try on the CPU hides the error of the first"
        asked.append((options.get_session_config_entry, providers))
        if len(asked) == 1:
            raise RuntimeError("a secret of ONNX Runtime")
        found = real(model, options, providers=["CPUExecutionProvider"])
        found.get_providers = lambda: [starts]
        return found

    monkeypatch.setattr(providers.ort, "InferenceSession", session)
    graph = bundle.manifest.profile("fp32").encoder.file
    with pytest.raises(StartError, match=rf"^{graph}: ONNX Runtime cannot run it on cuda: {said}$"):
        open_session(bundle.graphs[graph], graph, "cuda", captures=True)
    [record] = caplog.records
    assert (record.graph, record.reason) == (graph, "a secret of ONNX Runtime")
    (entry, given), _ = asked
    assert entry("session.disable_cpu_ep_fallback") == "1"
    name, options = given[0]
    assert (name, options["use_tf32"], options["enable_cuda_graph"]) == (CUDA, "0", "1")


@pytest.mark.parametrize("tf32", [False, True])
def test_products_are_of_tf32_only_where_asked_for(bundle: Bundle, monkeypatch, tf32):
    """And then a golden case may lie as far from PyTorch's as that makes it."""
    real, asked = providers.ort.InferenceSession, []

    def session(model, options, providers, enable_fallback):
        asked.append(providers[0][1]["use_tf32"])
        found = real(model, providers=["CPUExecutionProvider"])
        found.get_providers = lambda: [CUDA]
        return found

    monkeypatch.setattr(providers.ort, "InferenceSession", session)
    sessions = DeviceSessions(bundle, "fp32", "cuda", 1, tf32)
    assert set(asked) == {str(int(tf32))}
    exact = bundle.manifest.profile("fp32").score_tolerance
    assert sessions.profile.score_tolerance == (TF32_TOLERANCE if tf32 else exact)


@pytest.fixture
def seeming_gpu(monkeypatch) -> None:
    """A machine whose CUDA works, and is the CPU."""
    monkeypatch.setattr(opening, "check_cuda", lambda: None)
    monkeypatch.setattr(
        opening,
        "DeviceEngine",
        lambda bundle, profile, rows, _, *more: DeviceEngine(bundle, profile, rows, "cpu", *more),
    )


def test_cuda_takes_fp32_unless_told(bundle: Bundle, seeming_gpu):
    for device in ("cuda", "auto"):
        engine, why = open_engine(bundle, "", 4, device, 1)
        assert isinstance(engine, DeviceEngine) and engine.profile.name == "fp32" and why == ""
    with pytest.raises(BundleError, match="'fp16'; int8, fp32 are allowed"):
        open_engine(bundle, "fp16", 4, "cuda", 1)
    with pytest.raises(StartError, match="profile int8 does not run on it; fp32 does"):
        open_engine(bundle, "int8", 4, "cuda", 1)
    engine, why = open_engine(bundle, "int8", 4, "auto", 1)
    assert isinstance(engine, Engine) and "int8 does not run" in why


def test_fp16_is_decoded_where_it_is_asked_for(every_profile: Path, seeming_gpu):
    bundle = read_bundle(every_profile / "tiny" / "1")
    asked, others = open_engine(bundle, "fp16", 4, "cuda", 1), open_engine(bundle, "", 4, "cuda", 1)
    assert isinstance(asked[0], DeviceEngine) and asked[0].profile.name == "fp16"
    assert others[0].profile.name == "fp32"
    assert type(open_engine(bundle, "fp16", 4, "cpu", 1)[0]) is Engine
    assert open_engine(bundle, "", 4, "cpu", 1)[0].profile.name == "int8"


def test_rows_beside_an_engine_are_of_its_kind(bundle: Bundle):
    for engine in (Engine(bundle, "fp32", 4), DeviceEngine(bundle, "fp32", 4, "cpu")):
        beside = open_beside(engine, bundle, 2)
        assert type(beside) is type(engine) and (beside.rows, beside.profile) == (2, engine.profile)


def test_the_lock_names_the_libraries_that_are_asked_for():
    """CUDA 13 and cuDNN 9, as onnxruntime-gpu is built."""
    lock = Path("requirements/serving-gpu.txt").read_text()
    found = dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\d+)", lock, re.MULTILINE))
    for name in ("nvidia-cublas", "nvidia-cuda-runtime", "nvidia-cuda-nvrtc"):
        assert int(found[name]) == LEAST_CUDA
    assert found["nvidia-cudnn-cu13"] == "9"
    assert "onnxruntime-gpu" in found and "onnxruntime" not in found
