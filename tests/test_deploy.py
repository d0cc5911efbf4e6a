"""What the project is run with: images, the compose file, Kubernetes manifests, Prometheus, Grafana; all of it linted.

No container engine runs here; `docker compose config`, `kubectl kustomize` and `promtool` do, where they are installed.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.settings import Settings as ApiSettings
from tests.deploying import ROOT, dashboard, expressions, metrics_named, rules
from worker.settings import Settings as WorkerSettings

CONFINED = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"], "tmpfs": ["/tmp"]}  # noqa: S108
SETTINGS = {f"PALIMPSEST_{name.upper()}" for each in (ApiSettings, WorkerSettings) for name in each.model_fields}
BASE = ROOT / "deploy/kubernetes/base"
PROMETHEUS = ROOT / "deploy/prometheus"


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command at the root of the project."""
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def tool(name: str) -> str:
    """A program that came with a package of the environment."""
    return str(Path(sys.executable).with_name(name))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file, parsed."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def has_compose() -> bool:
    """Whether `docker compose` can be run."""
    docker = shutil.which("docker")
    return docker is not None and run(docker, "compose", "version").returncode == 0


@pytest.mark.skipif(not has_compose(), reason="docker compose is not installed")
@pytest.mark.parametrize("profile", ["gpu", "cpu", "metrics"])
def test_docker_compose_accepts_the_file(profile: str) -> None:
    answer = run("docker", "compose", "--profile", profile, "config", "--quiet", REDIS_PASSWORD="x")
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.compose-spec", "docker-compose.yml"),
        *(("vendor.github-workflows", str(path)) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))),
    ],
)
def test_files_are_what_their_schemas_ask_for(schema: str, file: str) -> None:
    answer = run(tool("check-jsonschema"), "--builtin-schema", schema, file)
    assert answer.returncode == 0, answer.stdout


def test_the_dockerfile_has_nothing_that_hadolint_minds() -> None:
    answer = run(tool("hadolint"), "--failure-threshold", "style", "Dockerfile")
    assert answer.returncode == 0, answer.stdout


def test_every_container_is_healthy_confined_and_of_a_named_version(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["healthcheck"]["test"], name
        assert service["stop_grace_period"], name
        assert CONFINED.items() <= service.items(), name
        assert "build" in service or re.search(r":v?\d+\.\d+", service["image"]), name
        assert "build" in service or re.fullmatch(r"\d+:\d+", service["user"]), name


def test_each_profile_has_its_worker_and_both_are_alike(compose: dict[str, Any]) -> None:
    services = compose["services"]
    always = {name for name, service in services.items() if "profiles" not in service}
    assert always == {"redis", "api"}
    gpu, cpu = services["worker"], services["worker-cpu"]
    assert (gpu["profiles"], cpu["profiles"]) == (["gpu"], ["cpu"])
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert "deploy" not in cpu
    assert cpu["networks"]["default"]["aliases"] == ["worker"]
    for worker in (gpu, cpu):
        assert worker["healthcheck"]["test"] == ["CMD", "python", "-m", "worker.alive"]
        assert not {"container_name", "hostname", "ports"} & worker.keys(), "there may be several"
    for part in (gpu, cpu, services["api"]):
        assert part["depends_on"] == {"redis": {"condition": "service_healthy"}}
        assert part["environment"]["REDIS_URL"].startswith("redis://:${REDIS_PASSWORD:?")


def test_redis_stays_inside_and_its_writes_are_safe(compose: dict[str, Any]) -> None:
    redis = compose["services"]["redis"]
    assert "ports" not in redis
    for option in ("--requirepass", "--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert option in redis["command"][-1]


def test_nothing_is_published_beyond_this_machine_unless_it_is_asked_for(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 3
    assert all(port.startswith(("127.0.0.1:", "${PALIMPSEST_BIND:-127.0.0.1}:")) for port in ports)
    assert compose["services"]["api"]["environment"]["PALIMPSEST_INSECURE"] == "${PALIMPSEST_INSECURE:-0}"


def test_volumes_are_those_that_are_used_and_mounted_files_are_there(compose: dict[str, Any]) -> None:
    mounts = [mount.split(":")[0] for each in compose["services"].values() for mount in each.get("volumes", ())]
    assert {mount for mount in mounts if not mount.startswith(".")} == set(compose["volumes"])
    for mount in mounts:
        assert not mount.startswith(".") or (ROOT / mount).exists(), mount


def test_every_setting_that_is_named_is_one(compose: dict[str, Any]) -> None:
    """A name that is misspelt would change nothing, and nobody would be told."""
    named = {name for each in compose["services"].values() for name in each.get("environment", ())}
    named |= {name for pod in pods() for each in pod["containers"] for name in _environment(each)}
    named |= set(re.findall(r"PALIMPSEST_[A-Z_]+(?==)", (ROOT / "Dockerfile").read_text()))
    named |= set(re.findall(r"PALIMPSEST_[A-Z_]+(?==)", (BASE / "kustomization.yaml").read_text()))
    ours = {name for name in named if name.startswith("PALIMPSEST_")}
    assert len(ours) > 8
    assert ours <= SETTINGS


def stages() -> dict[str, str]:
    """The Dockerfile's stages by name."""
    parts = re.split(r"^FROM .* AS (\w+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("target", ["service", "worker"])
def test_images_are_built_from_the_lock_run_as_nobody_and_say_how_they_are(target: str) -> None:
    stage = stages()[target]
    assert re.search(r"^USER 10001:10001$", stage, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", stage, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["palimpsest"\]$', stage, re.MULTILINE)
    installs = re.findall(r"pip install (.*)", stage)
    assert len(installs) >= 2
    assert all("-c /build/constraints.txt" in each or each.startswith("--no-deps /wheels") for each in installs)


def test_the_service_image_has_no_torch() -> None:
    (line,) = (line for line in stages()["wheel"].splitlines() if "/service.txt" in line)
    assert "e['worker']" not in line
    assert "worker.txt" not in stages()["service"]


def test_the_image_gets_every_file_that_it_copies() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(copied) >= 4
    for line in copied:
        assert set(line.split()) <= allowed


def manifests() -> Iterator[dict[str, Any]]:
    """Every object of the base, as it is written."""
    for path in sorted(BASE.glob("*.yaml")):
        yield from (each for each in yaml.safe_load_all(path.read_text()) if each["kind"] != "Kustomization")


def pods() -> Iterator[dict[str, Any]]:
    """What is run."""
    for each in manifests():
        if each["kind"] in ("Deployment", "StatefulSet"):
            yield each["spec"]["template"]["spec"]


def _environment(container: dict[str, Any]) -> list[str]:
    return [each["name"] for each in container.get("env", ())]


@pytest.mark.parametrize("version", ["1.30", "1.33", "1.37"])
def test_manifests_are_what_kubernetes_takes(version: str) -> None:
    found = list(manifests())
    assert {each["kind"] for each in found} >= {"Deployment", "StatefulSet", "Service", "PersistentVolumeClaim"}
    for each in found:
        kubernetes_validate.validate(each, version, strict=True)


def test_the_base_has_every_file_that_is_there() -> None:
    named = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert set(named) == {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize(("place", "gpus"), [("base", 1), ("cpu", 0)])
def test_kustomize_builds_both(place: str, gpus: int) -> None:
    answer = run("kubectl", "kustomize", f"deploy/kubernetes/{place}")
    assert answer.returncode == 0, answer.stderr
    built = list(yaml.safe_load_all(answer.stdout))
    for each in built:
        kubernetes_validate.validate(each, "1.33", strict=True)
    assert answer.stdout.count("nvidia.com/gpu") == gpus
    assert answer.stdout.count("PALIMPSEST_DEVICE") == 1 - gpus


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


def test_the_dashboard_shows_each_metric_in_its_place() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        apart_across = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_down = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_across or apart_down, (one, other)
    for panel in panels:
        assert panel["type"] == "row" or (panel["description"] and panel["targets"]), panel["title"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel.get("targets", ()))


def test_every_expression_is_one() -> None:
    """Parsed by Prometheus' own grammar; that what they name is exported is tried in tests/e2e/test_seen.py."""
    assert len(list(expressions())) > 30
    assert len(metrics_named()) > 20


def test_every_alert_says_what_to_look_at() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) >= 8
    for rule in rules():
        assert re.fullmatch(r"Palimpsest[A-Za-z]+", rule["alert"])
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].endswith(".")
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}


def test_every_alert_is_tried_on_what_is_healthy_and_on_what_it_is_there_for() -> None:
    healthy, *broken = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text())["tests"]
    names = {rule["alert"] for rule in rules()}
    assert {asked["alertname"] for asked in healthy["alert_rule_test"] if "exp_alerts" not in asked} == names
    tried = [asked for test in broken for asked in test["alert_rule_test"]]
    assert {asked["alertname"] for asked in tried if asked.get("exp_alerts")} == names


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: it comes with Prometheus")
@pytest.mark.parametrize(
    "asked",
    [
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
        ("check", "config", "--syntax-only", "prometheus.yml"),  # else it looks for the key, in its container
    ],
    ids=" ".join,
)
def test_prometheus_takes_its_files_and_its_alerts_fire_when_they_are_meant_to(asked: tuple[str, ...]) -> None:
    answer = subprocess.run(["promtool", *asked], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_prometheus_finds_rules_api_and_every_worker(compose: dict[str, Any]) -> None:
    loaded = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert all((PROMETHEUS / name).exists() for name in loaded["rule_files"])
    api, worker = loaded["scrape_configs"]
    assert api["static_configs"] == [{"targets": ["api:8000"]}]
    (found,) = worker["dns_sd_configs"]
    assert (found["names"], found["type"]) == (["worker"], "A")
    assert str(found["port"]) == compose["services"]["worker"]["environment"]["PALIMPSEST_METRICS_PORT"]
