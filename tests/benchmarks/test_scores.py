"""The table of several reports prints from what `palimpsest bench --out` writes, with intervals or from before them."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.scores import main
from tests.service.benchmarking import benchmark, method_result

CI95 = {"perplexity_ratio": (1.1, 1.4), "seconds_per_edit": (5.5, 6.5)}


@pytest.fixture
def reports(tmp_path: Path) -> list[str]:
    """One report with intervals, one of an older version."""
    paths = []
    for name, ci95 in (("new", CI95), ("old", {})):
        result = benchmark((name,)).result
        assert result is not None
        method = method_result(name, ci95=ci95)
        exclude = None if ci95 else {"methods": {0: {"ci95"}}}
        text = result.model_copy(update={"methods": (method,)}).model_dump_json(exclude=exclude)
        path = tmp_path / f"{name}.json"
        path.write_text(text)
        paths.append(str(path))
    return paths


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["scores", *arguments])
    main()
    return capsys.readouterr().out.replace("\\", "")


@pytest.mark.parametrize("columns", [(), ("--columns", "ES,EA")])
def test_methods_stand_below_one_another(
    reports: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: tuple[str, ...]
) -> None:
    lines = [line for line in printed(monkeypatch, capsys, *reports, *columns).splitlines() if line.startswith("|")]
    new, old = lines[-2:]
    assert new.startswith("| new |")
    assert "| x 1.250 [1.100, 1.400] |" in new
    assert "| 6 [5.5, 6.5] |" in new
    assert "| x 1.250 |" in old
    assert len({line.count("|") for line in lines}) == 1


def test_as_json(reports: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = json.loads(printed(monkeypatch, capsys, *reports, "--json"))["methods"]
    assert new["ci95"]["perplexity_ratio"] == [1.1, 1.4]
    assert old["ci95"] == {}
