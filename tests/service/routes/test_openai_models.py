"""Models by OpenAI's client: every revision has a name."""

from contextlib import contextmanager

import httpx
import openai
import pytest
from openai import OpenAI
from redis import Redis

from service.contracts.revisions import RevisionKind
from service.keys import Keys
from service.routes.openai_models import SHOWN_REVISIONS
from service.settings import Settings
from tests.service.asking import decode_of
from tests.service.conftest import serve
from tests.service.stand_in import StandIn


def test_the_head_the_base_and_every_revision_are_listed(ai: OpenAI, worker: StandIn) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0)
    page = ai.models.list()
    assert (page.object, {model.object for model in page.data}) == ("list", {"model"})
    assert [model.id for model in page] == ["test-model", "test-model@base", "test-model@r1", "test-model@r0"]
    made = [int(entry.created_at.timestamp()) for entry in worker.ledger.entries()]
    assert [model.created for model in page] == [made[1], made[0], made[1], made[0]]


def test_the_newest_revisions_are_listed_and_the_others_are_there(ai: OpenAI, worker: StandIn) -> None:
    for _ in range(SHOWN_REVISIONS):
        worker.append(RevisionKind.ROLLBACK, to=0)
    listed = [model.id for model in ai.models.list()]
    assert listed[2:] == [f"test-model@r{number}" for number in range(100, 0, -1)]
    assert ai.models.retrieve("test-model@r0").id == "test-model@r0"


@pytest.mark.parametrize(
    ("name", "revision"), [("test-model", 1), ("test-model@base", 0), ("test-model@r0", 0), ("test-model@r1", 1)]
)
def test_a_model_by_its_name(ai: OpenAI, worker: StandIn, name: str, revision: int) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0)
    answer = ai.models.with_raw_response.retrieve(name)
    model = answer.parse()
    assert (model.id, model.object, model.owned_by) == (name, "model", "palimpsest")
    assert model.created == int(worker.ledger.entries()[revision].created_at.timestamp())
    assert answer.headers["X-Model-Revision"] == str(revision)


@pytest.mark.parametrize(
    "name", ["gpt-4", "test-model@r1", "test-model@r00", "test-model@head", "test-model@", "r0", "@r0", "a/test-model"]
)
def test_a_model_that_does_not_exist(ai: OpenAI, name: str) -> None:
    for ask in (lambda: ai.models.retrieve(name), lambda: ai.completions.create(model=name, prompt="a")):
        with pytest.raises(openai.NotFoundError, match="GET /v1/models lists them") as caught:
            ask()
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_before_a_worker_has_started_there_is_no_model(http: httpx.Client) -> None:
    assert http.get("/v1/models").json() == {"object": "list", "data": []}
    head, base = http.get("/v1/models/test-model"), http.get("/v1/models/test-model@base")
    assert (head.status_code, base.status_code) == (503, 404)
    assert head.json()["error"]["code"] == "no_worker"
    assert http.get("/v1/models/").status_code == 404


def test_a_name_with_slashes(redis: Redis, valkey_url: str) -> None:
    name, keys = "org/test-model", Keys("org/test-model")
    running = contextmanager(serve)(Settings(model=name, port=0, redis_url=valkey_url))
    with (
        running as url,
        StandIn(redis, keys) as worker,
        OpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0) as ai,
    ):
        assert [model.id for model in ai.models.list()] == [name, f"{name}@base", f"{name}@r0"]
        assert ai.models.retrieve(f"{name}@base").id == f"{name}@base"
        assert ai.completions.create(model=f"{name}@r0", prompt="a").choices[0].text == " at 0"
        assert decode_of(worker).revisions == (0,)
