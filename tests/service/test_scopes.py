"""Every route says what it takes: no route is added without a scope."""

from collections.abc import Iterator

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext

from service.app import COUNTED, PUBLIC, create_app
from service.contracts.access import Scope
from service.dependencies import Needs
from service.settings import Settings
from tests.service.routed import dependant, label, routes

WITHOUT = {"/health", "/ready", "/docs", "/docs/oauth2-redirect", "/openapi.json", "/", "/playground"} | {
    "/static-offline-docs"
}
"""What needs no key, by name."""

READING = {"GET", "HEAD"}

ASKING = {"/generate", "/v1/completions", "/v1/chat/completions"}
"""What is posted, and changes nothing."""

TAKING_ALL = {"/revisions/{revision}/checkpoint"}


def scopes(dependant: Dependant) -> Iterator[Scope]:
    """All scopes that a route asks for, at whatever depth."""
    if isinstance(dependant.call, Needs):
        yield dependant.call.scope
    for inner in dependant.dependencies:
        yield from scopes(inner)


@pytest.mark.parametrize("route", routes(), ids=label)
def test_a_route_asks_for_the_scope_that_it_needs(route: RouteContext) -> None:
    path, asks = str(route.path), dependant(route)
    if path in WITHOUT:
        assert asks is None or not list(scopes(asks))
        assert {path, f"{path}/"} & {*PUBLIC, *COUNTED} or path.startswith("/docs/")
        return
    assert asks is not None, f"{path} asks nobody who he is"
    reads = (route.methods or set()) <= READING or path in ASKING
    needed = Scope.ADMIN if path in TAKING_ALL else Scope.READ if reads else Scope.EDIT
    assert set(scopes(asks)) == {needed}


def test_the_documentation_tells_the_scopes() -> None:
    schema = create_app(Settings(redis_url="redis://nowhere")).openapi()
    assert schema["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    told = {
        (method, path): operation.get("security")
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    }
    assert told["post", "/edits"] == [{"key": ["edit"]}]
    assert told["get", "/edits"] == [{"key": ["read"]}]
    assert told["get", "/revisions/{revision}/checkpoint"] == [{"key": ["admin"]}]
    assert {path for (_, path), security in told.items() if not security} == {"/health", "/ready"}
