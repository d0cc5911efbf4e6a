"""The wheel as somebody has it who has no checkout: built, installed into an environment of its own, run."""

import json
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())

LOOK = """
import asyncio, json
import httpx
from service.app import create_app
from service.settings import Settings
from worker.editing.hparams import shipped
from worker.editing.method import discover
from worker.settings import HPARAMS
import service, worker

app = create_app(Settings(redis_url="redis://127.0.0.1:1"))

async def page():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        return [(await http.get(path)).status_code for path in ("/", "/docs", "/openapi.json")]

print(json.dumps({
    "files": [service.__file__, worker.__file__, str(HPARAMS)],
    "pages": asyncio.run(page()),
    "version": app.version,
    "methods": sorted(discover()),
    "yamls": len(list(HPARAMS.glob("*/*.yaml"))),
}))
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("palimpsest-*-py3-none-any.whl")
    return found


@pytest.fixture(scope="module")
def home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; what it requires is looked for where the tests have it, to be quick."""
    place = tmp_path_factory.mktemp("home")
    venv.create(place, with_pip=False)
    command = (sys.executable, "-m", "pip", "--python", place / "bin" / "python", "install", "--quiet", "--no-deps")
    installed = run(*command, "--no-index", "--disable-pip-version-check", wheel, cwd=place)
    assert installed.returncode == 0, installed.stderr
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    tracked = run("git", "ls-files", "service", "worker", "hparams", cwd=ROOT)
    if tracked.returncode:
        pytest.skip("this is no git checkout")
    files = {name for name in tracked.stdout.splitlines() if (ROOT / name).exists()}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert len(files) > 300
    assert files <= packed
    assert {name.split("/")[0] for name in packed} == {"service", "worker", "hparams"}
    assert not any(name.endswith((".pyc", ".md")) for name in packed)


def test_everything_that_is_needed_is_found_away_from_the_checkout(home: Path) -> None:
    found = run(home / "bin" / "python", "-W", "error", "-c", LOOK, cwd=home)
    assert found.returncode == 0, found.stderr
    seen = json.loads(found.stdout.splitlines()[-1])
    assert all(name.startswith(str(home)) for name in seen["files"]), seen["files"]
    assert seen["pages"] == [200, 200, 200]
    assert seen["yamls"] == len(list((ROOT / "hparams").glob("*/*.yaml")))
    assert seen["methods"] == sorted(path.name for path in (ROOT / "hparams").iterdir())
    assert seen["version"].count(".") == 2


def test_the_command_is_there(home: Path) -> None:
    helped = run(home / "bin" / "palimpsest", "--help", cwd=home)
    assert helped.returncode == 0, helped.stderr
    for command in ("up", "edit", "generate", "rollback", "keys"):
        assert command in helped.stdout
    told = run(home / "bin" / "palimpsest", "--version", cwd=home)
    assert told.stdout == f"palimpsest {PROJECT['project']['version']}\n"
    nobody = run(home / "bin" / "palimpsest", "status", "--server", "http://127.0.0.1:1", cwd=home)
    assert nobody.returncode != 0
    assert "Traceback" not in nobody.stderr
