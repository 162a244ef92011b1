"""What kubectl makes of deploy/: valid against Kubernetes' schemas, and right where a schema cannot see."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundle.reader import read_bundle
from bundle.repository import newest
from service.errors import StartError
from service.lifecycle import WATCHDOG_SECONDS
from service.server import SERVICE
from service.settings import read_settings

ROOT = Path(__file__).parents[2]
OVERLAYS = ["cpu", "gpu"]
Manifest = dict[str, Any]


def program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def rendered(overlay: str) -> str:
    command = [program("kubectl"), "kustomize", str(ROOT / "deploy" / "overlays" / overlay)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def manifests(overlay: str) -> dict[str, Manifest]:
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(rendered(overlay))}


@pytest.fixture(scope="module")
def pod(manifests: dict[str, Manifest]) -> Manifest:
    return manifests["Deployment"]["spec"]["template"]


@pytest.fixture(scope="module")
def container(pod: Manifest) -> Manifest:
    [container] = pod["spec"]["containers"]
    return container


def is_valid(text: str, folder: Path) -> bool:
    file = folder / "rendered.yaml"
    file.write_text(text)
    command = [program("kubernetes-validate"), "--strict", str(file)]
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def test_the_schemas_take_it(overlay: str, tmp_path: Path):
    text = rendered(overlay)
    assert is_valid(text, tmp_path)
    assert not is_valid(text.replace("maxSurge: ", "maxSurges: "), tmp_path)  # they would see it


def test_every_selector_finds_the_pods(manifests: dict[str, Manifest], pod: Manifest):
    labels = pod["metadata"]["labels"].items()
    specs = {kind: manifest["spec"] for kind, manifest in manifests.items()}
    for selector in (
        specs["Deployment"]["selector"]["matchLabels"],
        specs["Service"]["selector"],
        specs["NetworkPolicy"]["podSelector"]["matchLabels"],
        specs["PodDisruptionBudget"]["selector"]["matchLabels"],
        pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels


def test_ports_are_those_that_the_server_listens_at(manifests: dict[str, Manifest], container: Manifest):
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    ours = {name: value for name, value in environment.items() if name.startswith("CHAIRLIFT_")}
    settings = read_settings([], ours)  # an unknown one is an error
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {f":{port}" for port in ports.values()} == {
        f":{address.rpartition(':')[2]}" for address in (settings.listen, settings.http)
    }
    assert {port["targetPort"] for port in manifests["Service"]["spec"]["ports"]} == set(ports)
    assert {port["port"] for port in manifests["NetworkPolicy"]["spec"]["ingress"][0]["ports"]} == set(ports)


def test_probes_ask_for_what_there_is(container: Manifest):
    assert container["readinessProbe"]["grpc"]["service"] == SERVICE
    assert container["startupProbe"]["grpc"]["port"] == container["ports"][0]["containerPort"]
    assert container["livenessProbe"]["tcpSocket"]["port"] == "grpc"


def test_a_pod_has_time_to_drain(pod: Manifest, container: Manifest):
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    seconds = [float(environment[f"CHAIRLIFT_{name}_SECONDS"]) for name in ("LAME_DUCK", "DRAIN")]
    assert pod["spec"]["terminationGracePeriodSeconds"] > sum(seconds) + WATCHDOG_SECONDS


def test_a_pod_may_do_nothing_but_serve(pod: Manifest, container: Manifest):
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert f"USER {pod['spec']['securityContext']['runAsUser']}:" in (ROOT / "Dockerfile").read_text()
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_memory_and_gpus_are_asked_for_as_they_are_limited(overlay: str, container: Manifest):
    resources = container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    gpus = {side: resources[side].get("nvidia.com/gpu") for side in ("requests", "limits")}
    assert gpus == dict.fromkeys(gpus, "1" if overlay == "gpu" else None)


def test_the_gpu_overlay_never_falls_back(container: Manifest, overlay: str):
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["CHAIRLIFT_DEVICE"] == {"cpu": "cpu", "gpu": "cuda"}[overlay]
    if overlay == "gpu":
        folder = newest(ROOT / "models", environment["CHAIRLIFT_DEFAULT_MODEL"])
        assert folder is not None
        default = read_bundle(folder)
        assert "fp32" in [profile.name for profile in default.manifest.profiles]
        assert container["image"] != "localhost/chairlift:latest"


def test_a_rollout_needs_no_gpu_to_spare(manifests: dict[str, Manifest], overlay: str):
    """On CPUs a new pod is ready before an old one drains."""
    rollout = manifests["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    surge, unavailable = (0, 1) if overlay == "gpu" else (1, 0)
    assert rollout == {"maxSurge": surge, "maxUnavailable": unavailable}


def test_an_image_that_is_there_is_not_pulled(container: Manifest):
    assert container["imagePullPolicy"] == "IfNotPresent"


def test_no_service_sets_a_variable_of_ours(pod: Manifest):
    """As Kubernetes does for each that has an address; the server would not start."""
    assert pod["spec"]["enableServiceLinks"] is False
    with pytest.raises(StartError, match="CHAIRLIFT_CANARY_SERVICE_HOST: no such setting"):
        read_settings([], {"CHAIRLIFT_CANARY_SERVICE_HOST": "10.0.0.1"})


def test_which_gpu_a_pod_sees_is_for_the_device_plugin_to_say(container: Manifest, overlay: str):
    names = {entry["name"] for entry in container["env"] if entry["name"].startswith("NVIDIA_")}
    assert names == ({"NVIDIA_DRIVER_CAPABILITIES"} if overlay == "gpu" else set())


def test_the_gpu_image_brings_the_libraries_that_its_runtime_loads():
    lock = (ROOT / "requirements" / "serving-gpu.txt").read_text()
    versions = dict(
        line.split(" ")[0].split("==", 1) for line in lock.splitlines() if "==" in line and line[0] != " "
    )
    assert "onnxruntime" not in versions
    assert "onnxruntime-gpu" in versions
    for library in ("nvidia-cublas", "nvidia-cuda-runtime", "nvidia-curand", "nvidia-cufft"):
        assert versions.keys() & {library, f"{library}-cu13"}, library
    assert versions["nvidia-cudnn-cu13"].startswith("9.")
