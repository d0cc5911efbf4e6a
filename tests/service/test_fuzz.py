"""Requests made up from the API's own description: no defect, and no answer that the description does not have.

PALIMPSEST_FUZZ=300 asks 300 requests of each operation and kind, and as many sequences: minutes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import FlakyStrategyDefinition, Unsatisfiable
from redis import Redis
from schemathesis import Case, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi import checks

from service.apikeys import ApiKeys
from service.contracts.access import Scope
from service.contracts.exports import ExportRequest
from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.revisions import ActivationRequest
from service.errors import ProblemError
from service.keys import Keys
from service.settings import Settings
from tests.service.conftest import serve
from tests.service.stand_in import StandIn

EXAMPLES = int(os.environ.get("PALIMPSEST_FUZZ", "6"))
"""Of each operation, valid and invalid, and of sequences."""

STEPS = 12
"""Requests of a sequence."""

LEFT_OUT: list[Any] = [not_a_server_error, checks.positive_data_acceptance, checks.negative_data_rejection]
"""See `no_defect`; and more than a description can say: that a subject must occur in its prompt, for one."""

MOST_QUERY = 5000
"""Characters of a query, each of which may be twelve on the way: a request's line has 64 KiB."""


@pytest.fixture(scope="module")
def worker(valkey_url: str) -> Iterator[StandIn]:
    """A worker's stand-in for all of this, which knows no exports."""
    with Redis.from_url(valkey_url, decode_responses=True) as redis:
        redis.flushall()
        stand_in = StandIn(redis, Keys("test-model"))

        def answer(request: LaneRequest) -> Any:
            if isinstance(request.body, ExportRequest):
                return _refused(request, ProblemError(409, "not-exact", "A stand-in exports nothing."))
            if isinstance(request.body, ActivationRequest):
                return _refused(request, ProblemError(409, "edit-not-applied", "A stand-in applies nothing."))
            try:
                return stand_in.answers(request)
            except ProblemError as error:
                return _refused(request, error)

        stand_in.answer = answer
        with stand_in:
            yield stand_in
        redis.flushall()


def no_defect(_: object, response: Response, __: object) -> None:
    """A revision that is not there yet may be later: 503. Nothing else is at fault but the request."""
    waits = response.status_code == 503 and ":revision-not-reached" in response.text
    assert response.status_code < 500 or waits, response.text


def _refused(request: LaneRequest, error: ProblemError) -> LaneAnswer:
    return LaneAnswer(id=request.id, problem=error.problem)


@pytest.fixture(scope="module")
def headers(worker: StandIn) -> dict[str, str]:
    """Those of somebody who may do everything."""
    return {"Authorization": f"Bearer {ApiKeys(worker.redis).create('fuzz', Scope.ADMIN)}"}


@pytest.fixture(scope="module")
def schema(worker: StandIn, valkey_url: str) -> Iterator[BaseSchema]:
    """The description that a running API gives of itself."""
    settings = Settings(model=worker.keys.model, port=0, redis_url=valkey_url, rate=1e6, burst=10**6)
    with contextmanager(serve)(settings) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


def asked(examples: int = EXAMPLES, **more: Any) -> settings:
    """The same requests at each run, unless more are asked for than usual."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize="PALIMPSEST_FUZZ" not in os.environ,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        **more,
    )


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_made_up_requests_are_answered_as_described(
    schema: BaseSchema, headers: dict[str, str], mode: GenerationMode
) -> None:
    asked_for = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        with suppress(Unsatisfiable):  # nothing about GET /health can be wrong
            asked_for += _ask(found.ok().as_strategy(generation_mode=mode), headers)
    assert asked_for > 30 * EXAMPLES


def _ask(strategy: Any, headers: dict[str, str]) -> int:
    seen = 0

    @asked()
    @given(case=strategy)
    def ask(case: Case[Any]) -> None:
        nonlocal seen
        assume(len(str(case.query)) < MOST_QUERY)
        seen += 1
        case.call_and_validate(headers=headers, additional_checks=[no_defect], excluded_checks=LEFT_OUT, timeout=60)

    ask()
    return seen


def test_made_up_sequences_are_answered_as_described(schema: BaseSchema, headers: dict[str, str]) -> None:
    """What one answer names is asked for by the next request: made, looked at, cancelled, looked at again."""
    failures: list[BaseException] = []
    seen: list[int] = []
    base = schema.exclude(path_regex="/events$").as_state_machine()

    class Sequence(base):  # type: ignore[valid-type,misc]
        def get_call_kwargs(self, case: Case[Any]) -> dict[str, Any]:
            assert case
            return {"headers": headers, "timeout": 60}

        def validate_response(self, response: Any, case: Case[Any], **_: Any) -> None:
            more: dict[str, Any] = {"additional_checks": [no_defect], "excluded_checks": LEFT_OUT}
            try:
                case.validate_response(response, headers=headers, **more)
            except BaseException as failure:
                failures.append(failure)
                raise
            seen.append(response.status_code)

    # Ids are others each time, so that a sequence cannot always be played again; what has failed is noted all the same.
    with suppress(FlakyStrategyDefinition):
        Sequence.run(settings=asked(stateful_step_count=STEPS))
    assert not failures, failures[0]
    assert len(seen) > EXAMPLES
