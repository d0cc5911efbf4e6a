"""Requests made up from the API's own description: no defect, and no answer that the description does not have.

PALIMPSEST_FUZZ=20 asks twenty times as many of them, others each time.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom
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

from service import lane
from service.apikeys import ApiKeys
from service.contracts.access import Scope
from service.keys import Keys
from service.settings import Settings
from tests.service.conftest import serve
from tests.service.fuzzing.asking import SENSE, Asking, Tally
from tests.service.fuzzing.description import Operation, operations
from tests.service.fuzzing.drafts import Draft
from tests.service.fuzzing.stand import Willing, willing
from tests.service.fuzzing.wire import wire

TIMES = int(os.environ.get("PALIMPSEST_FUZZ", "1"))

EXAMPLES = 6 * TIMES
"""Of each operation, valid and invalid."""

SEQUENCES = 20 * TIMES

STEPS = 12
"""Requests of a sequence."""

LEAST = 10_000 * TIMES
"""Different requests that are changed ones."""

LEFT_OUT: list[Any] = [not_a_server_error, checks.positive_data_acceptance, checks.negative_data_rejection]
"""See `no_defect`; and more than a description can say: that a subject must occur in its prompt, for one."""

MOST_QUERY = 5000
"""Characters of a query, each of which may be twelve on the way: a request's line has 64 KiB."""

CONNECTIONS = 3


@pytest.fixture(scope="module")
def worker(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Willing]:
    """A worker's stand-in for all of this."""
    with Redis.from_url(valkey_url, decode_responses=True) as redis:
        redis.flushall()
        with willing(redis, Keys("test-model"), tmp_path_factory.mktemp("blobs")) as stand:
            yield stand
        redis.flushall()


@pytest.fixture(scope="module")
def headers(worker: Willing) -> dict[str, str]:
    """Those of somebody who may do everything."""
    return {"Authorization": f"Bearer {ApiKeys(worker.redis).create('fuzz', Scope.ADMIN)}"}


@pytest.fixture(scope="module")
def url(worker: Willing, valkey_url: str) -> Iterator[str]:
    """A running API, which waits less than usual for revisions that do not come."""
    blobs: Path = worker.exports.place.parent.parent
    more: dict[str, Any] = {"redis_url": valkey_url, "blobs": str(blobs), "rate": 1e6, "burst": 10**6}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lane, "REACHED_SECONDS", 0.02)
        with contextmanager(serve)(Settings(model=worker.keys.model, port=0, **more)) as base:
            yield base


@pytest.fixture(scope="module")
def schema(url: str) -> BaseSchema:
    """The description that a running API gives of itself."""
    return schemathesis.openapi.from_url(f"{url}/openapi.json", timeout=60)


def no_defect(_: object, response: Response, __: object) -> None:
    """A revision that is not there yet may be later: 503. Nothing else is at fault but the request."""
    waits = response.status_code == 503 and ":revision-not-reached" in response.text
    assert response.status_code < 500 or waits, response.text


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


@pytest.fixture(scope="module")
def made_up(schema: BaseSchema) -> Mapping[str, list[Case[Any]]]:
    """Cases of each operation, valid and invalid ones."""
    found: dict[str, list[Case[Any]]] = {}
    for operation in schema.get_all_operations():
        assert isinstance(operation, Ok), operation
        its = found.setdefault(operation.ok().label, [])
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            with suppress(Unsatisfiable):  # nothing about GET /health can be wrong
                _collect(operation.ok().as_strategy(generation_mode=mode), its)
    return found


def _collect(strategy: Any, found: list[Case[Any]]) -> None:
    @asked()
    @given(case=strategy)
    def collect(case: Case[Any]) -> None:
        assume(len(str(case.query)) < MOST_QUERY)
        found.append(case)

    collect()


def test_made_up_requests_are_answered_as_described(
    made_up: Mapping[str, list[Case[Any]]], headers: dict[str, str]
) -> None:
    """With every check that schemathesis has, but for those in LEFT_OUT."""
    cases = [case for its in made_up.values() for case in its]
    for case in cases:
        case.call_and_validate(headers=headers, additional_checks=[no_defect], excluded_checks=LEFT_OUT, timeout=60)
    assert len(cases) > 60 * EXAMPLES


def test_ten_thousand_changed_requests_are_answered_as_described(
    schema: BaseSchema,
    worker: Willing,
    made_up: Mapping[str, list[Case[Any]]],
    url: str,
    headers: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was made up, and what makes sense, with changes: no two the same, and every operation has its share."""
    seed = 0 if TIMES == 1 else SystemRandom().getrandbits(32)
    asking = Asking({label: list(map(Draft.of, cases)) for label, cases in made_up.items()}, seed, TIMES)
    todo = operations(schema.raw_schema)
    makers = [operation for operation in todo if operation.takes_body]
    enders = [operation for operation in todo if operation.method == "DELETE"]
    others = [operation for operation in todo if operation not in (*makers, *enders)]

    def ask(operation: Operation) -> tuple[Operation, Tally]:
        with wire(url, headers) as connection:
            return operation, asking.ask(connection, operation)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        tallies = dict(pool.map(ask, makers))
        with worker.working:  # what is to be cancelled waits
            tallies |= dict(pool.map(ask, enders))
        tallies |= dict(pool.map(ask, others))
    for operation, tally in tallies.items():
        assert not tally.faults, (operation.label, seed, tally.faults[:3])
        assert tally.sent >= asking.share(operation), operation.label
        assert tally.answers[2] > 0, f"{operation.label} never succeeded: {tally.answers}"
        assert operation.bare or tally.answers[4] > 0, f"{operation.label} never refused: {tally.answers}"
    sent = Counter(digest for tally in tallies.values() for digest in tally.digests)
    assert sum(tally.sent for tally in tallies.values()) >= LEAST
    assert len(sent) >= LEAST
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_made_up_sequences_are_answered_as_described(schema: BaseSchema, headers: dict[str, str]) -> None:
    """What one answer names is asked for by the next request: made, looked at, cancelled, looked at again."""
    failures: list[BaseException] = []
    seen: list[int] = []
    followed: set[str] = set()
    base = schema.exclude(path_regex="/events$").as_state_machine()

    class Sequence(base):  # type: ignore[valid-type,misc]
        def get_call_kwargs(self, case: Case[Any]) -> dict[str, Any]:
            assert case
            return {"headers": headers, "timeout": 60}

        def before_call(self, case: Case[Any]) -> None:
            if case.method == "POST" and case.path in SENSE and len(seen) % 2:  # or nothing would ever be made
                case.body = SENSE[case.path][0]

        def validate_response(self, response: Any, case: Case[Any], **_: Any) -> None:
            more: dict[str, Any] = {"additional_checks": [no_defect], "excluded_checks": LEFT_OUT}
            try:
                case.validate_response(response, headers=headers, **more)
            except BaseException as failure:
                failures.append(failure)
                raise
            seen.append(response.status_code)

        def step(self, given: Any) -> Any:
            output = super().step(given)
            if given.transition is not None and given.is_applied and output.response.status_code < 300:
                followed.add(given.transition.id)
            return output

    # Ids are others each time, so that a sequence cannot always be played again; what has failed is noted all the same.
    with suppress(FlakyStrategyDefinition):
        Sequence.run(settings=asked(SEQUENCES, stateful_step_count=STEPS))
    assert not failures, failures[0]
    assert len(seen) > SEQUENCES
    assert len(followed) > 5, f"of the ways from one answer to the next request only {followed} were gone"
