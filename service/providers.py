"""Sessions of ONNX Runtime: on which device a graph runs, and that it truly does.

Knows nothing of bundles or rows. ONNX Runtime would run on the CPU, in silence, what CUDA cannot; here that
is an error which says why.
"""

import ctypes
import importlib.metadata
import io
import logging
import os
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import: no thread, no files, no uploads
import onnxruntime as ort

from service.errors import StartError

__all__ = ["check_cuda", "check_installation", "open_session", "ort"]  # ort: imported here and nowhere else

log = logging.getLogger(__name__)

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
LEAST_CUDA = 13  # what the locked onnxruntime-gpu is built with, besides cuDNN 9
CUDNN = "libcudnn.so.9"  # which the provider opens by itself, at its first use
NEEDED = f"CUDA {LEAST_CUDA} and cuDNN 9 are needed, as requirements/serving-gpu.txt installs them"


def open_session(
    model: bytes,
    name: str,
    device: str = "cpu",
    threads: int = 1,
    captures: bool = False,
    tf32: bool = False,
) -> ort.InferenceSession:
    """A session that runs wholly on `cpu` or `cuda`; `captures`: as CUDA graphs, by their ids.

    `tf32`: whether CUDA may round to 10 bits what it multiplies. `name` is the graph's in errors. Raises
    StartError where it does not run there.
    """
    options = _options(threads)
    providers: list[Any] = [CPU]
    if device == "cuda":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        providers = [(CUDA, _cuda_options(captures, tf32))]
    try:
        session = _session(model, options, providers)
    except Exception as error:
        log.warning("a graph is refused", extra={"graph": name, "device": device, "reason": str(error)})
        others = _operators_elsewhere(model, threads) if device == "cuda" else []
        why = f"CUDA would leave {', '.join(others)} to the CPU" if others else type(error).__name__
        raise StartError(f"{name}: ONNX Runtime cannot run it on {device}: {why}") from error
    if device == "cuda" and session.get_providers()[0] != CUDA:
        raise StartError(f"device cuda: ONNX Runtime could not start CUDA; {NEEDED}")
    return session


def check_installation() -> None:
    """Raises StartError where two packages fill the one folder that ONNX Runtime lives in."""
    folder = _folder_of("onnxruntime")
    if folder and folder == _folder_of("onnxruntime-gpu"):
        raise StartError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: keep one"
        )


def check_cuda() -> None:
    """Raises StartError that says what is missing for CUDA: the package, the driver, a GPU, a library."""
    if CUDA not in ort.get_available_providers():
        raise StartError(
            "device cuda: this onnxruntime has no CUDA provider; install requirements/serving-gpu.txt"
        )
    _check_driver()
    with redirect_stdout(io.StringIO()):  # it prints what it does not find
        ort.preload_dlls()  # those beside this package; elsewhere the system's loader finds them
    provider = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    try:
        for library in (str(provider), CUDNN):
            ctypes.CDLL(library)
    except OSError as error:
        missing = str(error).partition(":")[0]
        raise StartError(f"device cuda: {Path(missing).name} does not load; {NEEDED}") from error


def _check_driver() -> None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise StartError("device cuda: no NVIDIA driver here (libcuda.so.1 does not load)") from error
    count, version = ctypes.c_int(0), ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        raise StartError(f"device cuda: the NVIDIA driver finds no GPU (CUDA error {status})")
    driver.cuDriverGetVersion(ctypes.byref(version))
    if version.value < 1000 * LEAST_CUDA:
        found = f"{version.value // 1000}.{version.value % 1000 // 10}"
        raise StartError(f"device cuda: the NVIDIA driver speaks CUDA {found}; {NEEDED}")


def _folder_of(distribution: str) -> Path | None:
    """Where an installed package keeps ONNX Runtime; None where it is not installed."""
    try:
        return Path(str(importlib.metadata.distribution(distribution).locate_file("onnxruntime"))).resolve()
    except importlib.metadata.PackageNotFoundError:
        return None


def _session(model: bytes, options: ort.SessionOptions, providers: list[Any]) -> ort.InferenceSession:
    """A session with these providers or none: by itself, it hides why one failed behind a try on the CPU."""
    return ort.InferenceSession(model, options, providers=providers, enable_fallback=0)


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False  # shapes vary from run to run
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return options


def _cuda_options(captures: bool = False, tf32: bool = False) -> dict[str, str]:
    """Products in true float32 unless told; memory as it is asked for, not in doublings."""
    return {
        "use_tf32": str(int(tf32)),
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": str(int(captures)),
    }


def _operators_elsewhere(model: bytes, threads: int) -> list[str]:
    """The operators of a graph that ONNX Runtime would put on another device than CUDA; none if it fails."""
    options = _options(threads)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        session = _session(model, options, [(CUDA, _cuda_options()), CPU])
        if session.get_providers()[0] != CUDA:
            return []  # then it is CUDA itself that does not start
        parts = session.get_provider_graph_assignment_info()
        return sorted({node.op_type for part in parts if part.ep_name != CUDA for node in part.get_nodes()})
    except Exception:  # the first error stands
        return []
