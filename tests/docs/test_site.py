"""The site: it builds without a warning, loads nothing from elsewhere, and its drawings are those of the script."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from docs.hooks.figures import FOLDER, drawings
from docs.hooks.reference import document
from tests.docs.conftest import ROOT

LOADED = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site's folder, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "true"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stderr
    return folder


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = [path for path in site.rglob("*.html") if path.name != "404.html"]
    assert len(pages) > 25
    for page in pages:
        loaded = [tag for tag in LOADED.findall(page.read_text()) if 'rel="canonical"' not in tag]
        assert not loaded, f"{page.name}: {loaded}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text()), style


def test_every_call_and_every_method_is_in_the_references(site: Path) -> None:
    written = "".join(path.read_text() for path in (site / "http").glob("*.html"))
    for path, calls in document()["paths"].items():
        for verb in calls:
            assert f"{verb.upper()} {path}" in written
    methods = (site / "hyperparameters.html").read_text()
    for path in ROOT.glob("hparams/*/*.yaml"):
        assert f'id="{path.parent.name}"' in methods
        assert path.stem in methods


def _examples(openapi: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    for path, calls in openapi["paths"].items():
        if path == "/benchmarks":
            continue  # it also takes a method's bare name, which the schema does not say
        for call in calls.values():
            for body in call.get("requestBody", {}).get("content", {}).values():
                for example in body.get("examples", {}).values():
                    yield body["schema"], example["value"]


def test_the_examples_of_the_reference_are_valid() -> None:
    openapi = document()
    found = list(_examples(openapi))
    assert found
    for schema, value in found:
        Draft202012Validator({**schema, "components": openapi["components"]}).validate(json.loads(json.dumps(value)))


def test_the_drawings_are_those_of_the_script() -> None:
    for name, text in drawings():
        assert (FOLDER / name).read_text() == text, "draw them again: python -m docs.hooks.figures"
