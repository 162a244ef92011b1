"""Which engine decodes a bundle: the one of the CPU or the one of a device, and in which profile.

Knows nothing of sessions, rows or requests.
"""

import logging

from bundle.errors import BundleError
from bundle.reader import Bundle
from service.device_engine import DeviceEngine
from service.engine import Engine
from service.errors import StartError
from service.golden import verify
from service.kernel_engine import KernelEngine
from service.kernel_weights import Unsuited
from service.providers import check_cuda, check_installation

log = logging.getLogger(__name__)

ON_CUDA = ("fp16", "fp32")  # profiles whose operators CUDA has
AnyEngine = Engine | DeviceEngine


def open_engine(
    bundle: Bundle,
    profile: str,
    rows: int,
    device: str,
    threads: int,
    kernels: bool = True,
    tf32: bool = False,
) -> tuple[AnyEngine, str]:
    """An engine on `cpu` or `cuda`, or under `auto` on CUDA where it works and else on the CPU.

    Where no profile is named, CUDA takes fp32: it has no operators for whole numbers. The second: why not on
    CUDA; empty where nothing fell back. Raises StartError where the graphs do not run on the device that was
    asked for, BundleError for a profile that the bundle lacks.

    On the CPU, compiled kernels decode what they suit, once they gave the golden cases' answers; they compute
    what the graphs compute.
    """
    check_installation()
    if device == "cpu":
        return _on_cpu(bundle, profile, rows, threads, kernels), ""
    try:
        return _on_cuda(bundle, profile, rows, threads, tf32), ""
    except StartError as error:
        if device == "cuda":
            raise
        return _on_cpu(bundle, profile, rows, threads, kernels), str(error)


def open_beside(engine: AnyEngine, bundle: Bundle, rows: int) -> AnyEngine:
    """More rows for the graphs of an engine."""
    if isinstance(engine, DeviceEngine):
        return DeviceEngine(bundle, engine.profile.name, rows, engine.device, beside=engine)
    return type(engine)(bundle, engine.profile.name, rows, beside=engine)


def _on_cpu(bundle: Bundle, profile: str, rows: int, threads: int, kernels: bool) -> Engine:
    if kernels:
        try:
            engine = KernelEngine(bundle, profile, rows, threads)
            verify(bundle, engine)
            return engine
        except Unsuited as reason:
            log.info("no kernels for this bundle, ONNX Runtime decodes", extra={"reason": str(reason)})
        except StartError as error:
            log.warning("the kernels do not agree, ONNX Runtime decodes", extra={"reason": str(error)})
    return Engine(bundle, profile, rows, threads)


def _on_cuda(bundle: Bundle, profile: str, rows: int, threads: int, tf32: bool) -> DeviceEngine:
    found = bundle.manifest.profile(profile)
    if not profile and found.name not in ON_CUDA:
        names = [one.name for one in bundle.manifest.profiles]
        if "fp32" not in names:
            raise StartError(f"device cuda: the bundle has no profile for it; fp32 is one, {names} are there")
        found = bundle.manifest.profile("fp32")
    if found.name not in ON_CUDA:
        raise StartError(f"device cuda: profile {found.name} does not run on it; fp32 does")
    check_cuda()
    try:
        return DeviceEngine(bundle, found.name, rows, "cuda", threads, tf32)
    except (BundleError, StartError):
        raise
    except Exception as error:  # such as a device without memory for so many rows
        log.error("no rows on the device", exc_info=True, extra={"rows": rows})
        raise StartError(f"device cuda: {type(error).__name__} where {rows} rows were laid out") from error
