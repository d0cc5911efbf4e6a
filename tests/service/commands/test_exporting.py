"""`palimpsest export` and its client: what comes to disk, and what is said of it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.client import Palimpsest
from service.contracts.exports import ExportKind, ExportManifest
from service.contracts.lane import LaneAnswer
from service.errors import ProblemError
from service.settings import Settings
from service.unpacking import UnpackingError
from tests.service.conftest import MODEL, Run, serve
from tests.service.export_stand import ADAPTER, LARGE, SMALL, ExportStand
from tests.service.stand_in import StandIn


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blobs")


@pytest.fixture(scope="module")
def url(valkey_url: str, blobs: Path) -> Iterator[str]:
    """URL of an API that reads exports from the folder."""
    yield from serve(Settings(model=MODEL, port=0, redis_url=valkey_url, blobs=str(blobs)))


@pytest.fixture
def stand(url: str, worker: StandIn, blobs: Path, monkeypatch: pytest.MonkeyPatch) -> ExportStand:
    assert httpx.get(f"{url}/revisions").json()["revision"] == worker.ledger.head()
    monkeypatch.setenv("PALIMPSEST_SERVER", url)
    return ExportStand(worker, blobs)


@pytest.mark.usefixtures("stand")
def test_an_adapter_comes_into_a_folder(run: Run, tmp_path: Path) -> None:
    code, output, _ = run("export", "r0", "--adapter", "--out", str(tmp_path / "a"), "--rank", "9")
    assert code == 0
    assert output == f"r0 as an adapter: {tmp_path / 'a'}\nrank 2, and 1.25% of the change was cut off\n"
    found = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert ExportManifest.model_validate_json(found.pop("manifest.json")).revision == 0
    assert found == ADAPTER


def test_a_checkpoint_of_the_head_comes_into_a_file(run: Run, stand: ExportStand, tmp_path: Path) -> None:
    code, output, _ = run("export", "--checkpoint", "--out", str(tmp_path / "c.tar"))
    assert (code, output) == (0, f"r0 as a checkpoint: {tmp_path / 'c.tar'}\n")
    assert (tmp_path / "c.tar").stat().st_size > sum(map(len, (SMALL | LARGE).values()))
    assert len(stand.worker.asked) == 3


@pytest.mark.usefixtures("stand")
def test_without_a_name_it_goes_by_what_it_is(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("export", "base", "--checkpoint")[0] == 0
    assert (tmp_path / "base-checkpoint" / "manifest.json").is_file()
    code, _, errors = run("export", "base", "--checkpoint")
    assert (code, errors) == (1, "base-checkpoint is there already. Name a new one.\n")


def test_a_refusal_is_told(run: Run, stand: ExportStand, tmp_path: Path) -> None:
    problem = ProblemError(409, "adapter-not-exact", "Take the checkpoint.").problem
    stand.worker.answer = lambda request: LaneAnswer(id=request.id, problem=problem)
    code, output, errors = run("export", "--adapter", "--out", str(tmp_path / "a"))
    assert (code, output, errors) == (5, "", "Take the checkpoint.\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["c", "c.tar"])
def test_an_export_that_breaks_off_leaves_nothing(run: Run, stand: ExportStand, tmp_path: Path, out: str) -> None:
    stand.lie = {"sha256": "0" * 64}
    code, output, errors = run("export", "--checkpoint", "--out", str(tmp_path / out))
    assert (code, output) == (1, "")
    assert errors == "The server ended the export before it was whole; its log says why. Try again.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [(), ("--adapter", "--checkpoint"), ("--checkpoint", "--rank", "3"), ("--adapter", "--rank", "0")],
)
def test_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("export", *arguments)[0] == 2


def test_the_place_is_looked_at_before_anything_comes(url: str, stand: ExportStand, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with Palimpsest(url) as client, pytest.raises(UnpackingError):
        client.export(ExportKind.ADAPTER, tmp_path / "a")
    assert stand.worker.asked == []
