"""Where work comes from: the id of the request that asked for it, and the span that the caller was in."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """request_id: as in X-Request-Id; traceparent: as W3C Trace Context has it. Either is "" where there is none."""

    request_id: str = ""
    traceparent: str = ""

    def fields(self) -> dict[str, str]:
        """As it lies in a job's document, beside the other fields."""
        return {name: value for name, value in vars(self).items() if value}


# Of the task or thread that asks, so that whatever is logged or queued on the way can name it.
ORIGIN: ContextVar[Origin] = ContextVar("origin", default=Origin())  # noqa: B039 - it is frozen
"""The origin of what is being done."""
