"""The facts to start from over HTTP."""

import httpx
import pytest

from service.contracts.edits import EditRequest


def test_examples_are_edits_as_they_stand_and_of_many_kinds(http: httpx.Client) -> None:
    body = http.get("/examples").json()
    requests = [EditRequest.model_validate(fact) for fact in body["facts"]]
    assert len(requests) == 12 < body["total"]
    assert all(request.target_true and request.paraphrases and request.neighborhood for request in requests)
    assert len({request.target_true for request in requests}) > 6


def test_all_examples_are_told_once(http: httpx.Client) -> None:
    body = http.get("/examples", params={"limit": 200}).json()
    assert len({fact["prompt"] for fact in body["facts"]}) == len(body["facts"]) == body["total"]


@pytest.mark.parametrize("limit", [0, 201, "x"])
def test_a_limit_that_cannot_be_kept(http: httpx.Client, limit: object) -> None:
    answer = http.get("/examples", params={"limit": str(limit)})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "limit")
