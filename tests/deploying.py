"""What deploy/ holds, read as the programs that it is for read it."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

ROOT = Path(__file__).parents[1]
BASE = ROOT / "deploy/kubernetes/base"
PROMETHEUS = ROOT / "deploy/prometheus"

VARIABLES = {"$__rate_interval": "5m", "$__range": "3h", "$model": ".*"}
"""Grafana's, and what it may put in their place."""


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command at the root of the project."""
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def compose_file() -> dict[str, Any]:
    """The compose file, parsed."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def manifests() -> Iterator[dict[str, Any]]:
    """Every object of the base, as it is written."""
    for path in sorted(BASE.glob("*.yaml")):
        yield from (each for each in yaml.safe_load_all(path.read_text()) if each["kind"] != "Kustomization")


def pods() -> Iterator[dict[str, Any]]:
    """What is run."""
    for each in manifests():
        if each["kind"] in ("Deployment", "StatefulSet"):
            yield each["spec"]["template"]["spec"]


def dashboard() -> dict[str, Any]:
    """The dashboard for Grafana."""
    loaded: dict[str, Any] = json.loads((ROOT / "deploy/grafana/palimpsest.json").read_text())
    return loaded


def rules() -> list[dict[str, Any]]:
    """The alert rules for Prometheus."""
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> Iterator[str]:
    """All that dashboard and rules ask Prometheus, in its language."""
    shown = dashboard()
    asked = [target["expr"] for panel in shown["panels"] for target in panel.get("targets", ())]
    asked += [each["expr"] for each in shown["annotations"]["list"]]
    return (_filled_in(expression) for expression in [*asked, *(rule["expr"] for rule in rules())])


def _filled_in(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def metrics_named() -> set[str]:
    """The samples that dashboard and rules ask for, by their names."""
    return {name for expression in expressions() for name in _names(promql_parser.parse(expression))}


def _names(node: Any) -> Iterator[str]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name or ""
        return
    if isinstance(node, promql_parser.MatrixSelector):
        yield from _names(node.vector_selector)
        return
    for part in ("expr", "lhs", "rhs"):
        if (inner := getattr(node, part, None)) is not None:
            yield from _names(inner)
    for argument in getattr(node, "args", None) or ():
        yield from _names(argument)
