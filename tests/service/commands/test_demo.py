"""The demo against a running API: what it shows, and when it says that it failed."""

import io
from collections.abc import Iterator

import httpx
import pytest
from rich.console import Console

from service.client import Palimpsest
from service.commands import demo
from service.contracts.edits import EditStatus, Outcome
from service.contracts.scores import TargetScore
from service.errors import ProblemError
from tests.service import stand_in
from tests.service.acting import acting
from tests.service.stand_in import StandIn


@pytest.fixture
def client(http: httpx.Client) -> Iterator[Palimpsest]:
    with Palimpsest(str(http.base_url)) as client:
        yield client


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=120)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_checksum_that_differs_is_a_failure(worker: StandIn, client: Palimpsest, console: Console) -> None:
    # the stand-in gives every revision a checksum of its own
    with acting(worker, worker.apply), pytest.raises(demo.DemoError, match="checksum of r3 is not that of r0"):
        demo.show(client, console)
    shown = text_of(console)
    for part in ("Edit 1 of 2", "Edit 2 of 2", "before (base)", "after (r2)", "POST /rollback to r0 made r3"):
        assert part in shown


def test_an_edit_that_fails_is_a_failure(worker: StandIn, client: Palimpsest, console: Console) -> None:
    problem = ProblemError(500, "edit-failed", "The dog ate it.").problem

    def fail(edit_id: str) -> None:
        worker.edits.end(edit_id, EditStatus.FAILED, problem)

    with acting(worker, fail), pytest.raises(demo.DemoError, match=r"ended failed: The dog ate it\."):
        demo.show(client, console)


def test_an_edit_that_does_not_take_is_a_failure(
    worker: StandIn, client: Palimpsest, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = stand_in.outcome()
    likelier = TargetScore(probability=0.75, nll=0.3, rank=1, accuracy=1)
    after = found.facts[0].after.model_copy(update={"target_true": likelier})

    def not_taken(_: int) -> Outcome:
        return found.model_copy(update={"facts": (found.facts[0].model_copy(update={"after": after}),)})

    monkeypatch.setattr(stand_in, "outcome", not_taken)
    with acting(worker, worker.apply), pytest.raises(demo.DemoError, match="the edit did not take"):
        demo.show(client, console)
