"""Where work comes from: whose key asked for it, in which request, and in which span the caller was."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from service.contracts.access import Asker


@dataclass(frozen=True)
class Origin:
    """Each is "" where there is none. request_id: as in X-Request-Id; traceparent: as W3C Trace Context has it; by: the
    name of the API key.
    """

    request_id: str = ""
    traceparent: str = ""
    by: str = ""

    @property
    def asker(self) -> Asker:
        """As the API tells it."""
        return Asker(by=self.by or None, request_id=self.request_id or None)

    def fields(self) -> dict[str, str]:
        """As it lies in a job's document, beside the other fields."""
        return {name: value for name, value in vars(self).items() if value}


# Of the task or thread that asks, so that whatever is logged or queued on the way can name it.
ORIGIN: ContextVar[Origin] = ContextVar("origin", default=Origin())  # noqa: B039 - it is frozen
"""The origin of what is being done."""


@contextmanager
def in_name_of(origin: Origin) -> Iterator[None]:
    """Let what is done in here have this origin, and what is done after it not."""
    token = ORIGIN.set(origin)
    try:
        yield
    finally:
        ORIGIN.reset(token)
