"""What shows the running service: Prometheus' rules, tried with promtool where it is installed, and Grafana's board."""

import re
import shutil
import subprocess
from itertools import combinations

import pytest
import yaml

from tests.deploying import PROMETHEUS, ROOT, compose_file, dashboard, expressions, metrics_named, pods, rules


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


def test_no_expression_depends_on_what_prometheus_calls_its_jobs() -> None:
    """They are other ones in a cluster."""
    assert not [expression for expression in expressions() if re.search(r"\bjob *=", expression)]


def test_the_jobs_for_a_cluster_find_the_ports_of_api_and_workers() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/monitoring.md").read_text(), re.DOTALL)
    containers = [container for pod in pods() for container in pod["containers"]]
    ports = {port["name"]: container["name"] for container in containers for port in container["ports"]}
    found = {}
    for job in yaml.safe_load(text)["scrape_configs"]:
        ((discovery,), (kept,)) = job["kubernetes_sd_configs"], job["relabel_configs"]
        assert discovery == {"role": "pod", "namespaces": {"names": ["palimpsest"]}}
        found[job["job_name"]] = ports[kept["regex"]], "authorization" in job
    assert found == {"palimpsest-api": ("api", True), "palimpsest-worker": ("worker", False)}


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


def test_prometheus_finds_rules_api_and_every_worker() -> None:
    loaded = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert all((PROMETHEUS / name).exists() for name in loaded["rule_files"])
    api, worker = loaded["scrape_configs"]
    assert api["static_configs"] == [{"targets": ["api:8000"]}]
    (found,) = worker["dns_sd_configs"]
    assert (found["names"], found["type"]) == (["worker"], "A")
    assert str(found["port"]) == compose_file()["services"]["worker"]["environment"]["PALIMPSEST_METRICS_PORT"]
