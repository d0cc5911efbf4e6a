"""All routes of the API, as the application has them, with the dependencies that they were given."""

from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts

from service.app import create_app
from service.settings import Settings


def routes() -> list[RouteContext]:
    """Every route and mount; each has a path and, but for mounts and plain routes, a `dependant`."""
    found = list(iter_route_contexts(create_app(Settings(redis_url="redis://nowhere")).routes))
    assert all(route.path is not None for route in found)
    assert len(found) > 30, "FastAPI keeps its routes elsewhere"
    return found


def label(route: RouteContext) -> str:
    """A route's method and path."""
    return f"{min(route.methods or ('ANY',))} {route.path}"


def dependant(route: RouteContext) -> Dependant | None:
    """What an API route depends on; None of a plain one."""
    found: Dependant | None = getattr(route, "dependant", None)
    return found
