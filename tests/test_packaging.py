"""What the project is made of: pinned packages, import rules, CI."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LEFT_OUT = ("hub", "release")
"""Extras that `make setup` does not install."""

PINNED_BY_TORCH = ("cuda-toolkit", "nvidia-", "triton")
"""What a torch for GPUs requires besides, each at one version."""

SHARED = {
    *("active", "benchmarks", "checks", "contracts", "datasets", "documents", "edits", "errors", "evaluations"),
    *("items", "jobs", "keys", "ledger", "listing", "logs", "origin", "queue", "redis_url", "spans", "traces"),
    *("unpacking", "wording"),
}
"""What the worker takes from the service."""


def pins() -> dict[str, Requirement]:
    """The pins by canonical name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def required() -> Iterator[Requirement]:
    """Everything that the project and the extras of `make setup` require here, and what that requires."""
    project = PROJECT["project"]
    installed = [extra for name, extra in project["optional-dependencies"].items() if name not in LEFT_OUT]
    texts = [*project["dependencies"], *(text for extra in installed for text in extra)]
    waiting = [Requirement(text) for text in texts]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        if requirement.name == PROJECT["project"]["name"]:  # an extra that is made of others
            continue
        if requirement.name.startswith(PINNED_BY_TORCH):
            continue
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        yield requirement
        for text in distribution(requirement.name).requires or ():
            child = Requirement(text)
            extras = requirement.extras or {""}
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(child)


def test_every_dependency_is_pinned_at_the_version_in_use() -> None:
    known = pins()
    for requirement in required():
        pin = known.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not in constraints.txt"
        installed = distribution(requirement.name).version
        assert pin.specifier.contains(installed), f"{pin} is pinned, {installed} is installed: make setup"


@pytest.mark.parametrize("extra", LEFT_OUT)
def test_what_is_left_out_of_the_set_up_is_pinned_without_being_installed(extra: str) -> None:
    for text in PROJECT["project"]["optional-dependencies"][extra]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(str(pins()[requirement.name].specifier).removeprefix("=="))


def test_pins_are_exact_and_name_no_place() -> None:
    for pin in pins().values():
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), pin
        assert pin.url is None


def test_build_backend_is_pinned() -> None:
    for text in PROJECT["build-system"]["requires"]:
        requirement = Requirement(text)
        assert requirement.specifier == pins()[canonicalize_name(requirement.name)].specifier


def test_import_rules_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout


def test_every_module_of_the_service_is_shared_with_the_worker_or_kept_from_it() -> None:
    contracts = {contract["id"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]}
    kept = {name.removeprefix("service.") for name in contracts["shared"]["forbidden_modules"]}
    modules = {path.stem for path in (ROOT / "service").glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in (ROOT / "service").glob("*/__init__.py")}
    assert SHARED | kept == modules | packages
    assert not SHARED & kept


def test_ci_runs_what_a_developer_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    for target in ("setup", "lint", "types", "imports", "test"):
        assert f"make {target}" in script.read_text()
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert {"run": ".ci/run"} in jobs["check"]["steps"]


def test_make_has_every_target_that_is_promised() -> None:
    text = (ROOT / "Makefile").read_text()
    for target in ("setup", "demo", "serve", "test", "lint", "types", "imports", "check", "release", "clean"):
        assert re.search(rf"^{target}:", text, re.MULTILINE), target


def test_release_notes_are_those_of_the_version_alone() -> None:
    version = PROJECT["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    told = subprocess.run(["make", "notes"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.match(rf"## {re.escape(version)}\b", told)
    assert len(re.findall("^## ", told, re.MULTILINE)) == 1
    assert told.count("\n- ") > 0
