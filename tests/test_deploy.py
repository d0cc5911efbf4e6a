"""What the project is run with: images and the compose file, linted.

No container engine runs here; `docker compose config` does, where it is installed.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from service.settings import Settings as ApiSettings
from tests.deploying import BASE, ROOT, compose_file, pods, run
from worker.settings import Settings as WorkerSettings

CONFINED = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"], "tmpfs": ["/tmp"]}  # noqa: S108


def settings_of(model: type[BaseSettings]) -> set[str]:
    """The names of the environment variables that a part of the program reads."""
    return {f"PALIMPSEST_{name.upper()}" for name in model.model_fields}


OF_THE_IMAGE = {f"PALIMPSEST_{name}" for name in ("HOST", "PORT", "DATA_DIR", "REDIS_URL")}
"""What the images and the compose file lay down: where it listens, where it writes, which Redis it asks (REDIS_URL)."""


def tool(name: str) -> str:
    """A program that came with a package of the environment."""
    return str(Path(sys.executable).with_name(name))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file, parsed."""
    return compose_file()


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
    assert ours <= settings_of(ApiSettings) | settings_of(WorkerSettings)


def test_compose_passes_on_every_setting_that_an_operator_may_set(compose: dict[str, Any]) -> None:
    """One that it did not name would be set in the shell, and change nothing."""
    services = compose["services"]
    api = settings_of(ApiSettings) - OF_THE_IMAGE - {"PALIMPSEST_METRICS_PORT"}  # which is of `up` alone
    assert api <= services["api"]["environment"].keys()
    for name in ("worker", "worker-cpu"):
        assert settings_of(WorkerSettings) - OF_THE_IMAGE | {"HF_TOKEN"} <= services[name]["environment"].keys()
    assert services["worker"]["environment"]["PALIMPSEST_DEVICE"] == "${PALIMPSEST_DEVICE:-cuda}"
    assert services["worker-cpu"]["environment"]["PALIMPSEST_DEVICE"] == "cpu"


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


def _environment(container: dict[str, Any]) -> list[str]:
    return [each["name"] for each in container.get("env", ())]
