"""The Kubernetes manifests, validated and, where kubectl is installed, built."""

import shutil
import tomllib

import kubernetes_validate
import pytest
import yaml

from tests.deploying import BASE, ROOT, manifests, pods, run


@pytest.mark.parametrize("version", ["1.30", "1.33", "1.37"])
def test_manifests_are_what_kubernetes_takes(version: str) -> None:
    found = list(manifests())
    assert {each["kind"] for each in found} >= {"Deployment", "StatefulSet", "Service", "PersistentVolumeClaim"}
    for each in found:
        kubernetes_validate.validate(each, version, strict=True)


def test_the_base_has_every_file_that_is_there() -> None:
    named = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert set(named) == {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}


def test_the_images_are_those_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = yaml.safe_load((BASE / "kustomization.yaml").read_text())["images"]
    assert {image["newTag"] for image in images} == {version}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize(("place", "gpus", "device"), [("base", 1, "cuda"), ("cpu", 0, "cpu")])
def test_kustomize_builds_both(place: str, gpus: int, device: str) -> None:
    answer = run("kubectl", "kustomize", f"deploy/kubernetes/{place}")
    assert answer.returncode == 0, answer.stderr
    built = list(yaml.safe_load_all(answer.stdout))
    for each in built:
        kubernetes_validate.validate(each, "1.33", strict=True)
    assert answer.stdout.count("nvidia.com/gpu") == gpus
    (worker,) = (each for each in built if (each["kind"], each["metadata"]["name"]) == ("Deployment", "worker"))
    assert {"name": "PALIMPSEST_DEVICE", "value": device} in worker["spec"]["template"]["spec"]["containers"][0]["env"]


def test_pods_are_confined_as_the_restricted_standard_asks() -> None:
    found = list(pods())
    assert len(found) == 3
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_no_probe_waits_behind_an_edit() -> None:
    """Neither /health nor the heartbeat asks the model thread for anything; /ready and /generate do."""
    _, api, worker = sorted(pods(), key=lambda pod: ["redis", "api", "worker"].index(pod["containers"][0]["name"]))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert api["containers"][0][probe]["httpGet"] == {"path": "/health", "port": "http"}
    for probe in ("startupProbe", "livenessProbe"):
        assert worker["containers"][0][probe]["exec"] == {"command": ["python", "-m", "worker.alive"]}


def test_api_and_workers_share_a_volume_and_each_worker_has_a_gpu() -> None:
    (claim,) = (each for each in manifests() if each["kind"] == "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    sharing = [
        pod for pod in pods() if {"name": "data", "persistentVolumeClaim": {"claimName": "data"}} in pod["volumes"]
    ]
    assert {pod["containers"][0]["name"] for pod in sharing} == {"api", "worker"}
    (gpu,) = (pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for pod in sharing[1:])
    assert gpu == "1"
