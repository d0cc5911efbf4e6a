"""Errors as RFC 9457 problems."""

from service.contracts.base import Contract

PROBLEM_TYPE = "urn:palimpsest:problem:"
"""What every problem's `type` begins with; the rest is a stable name."""


class FieldError(Contract):
    """One field of the request that is wrong, and what to do about it."""

    field: str
    detail: str


class Problem(Contract):
    """RFC 9457 problem details: a stable type, a sentence that says what to do, the fields at fault."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[FieldError, ...] = ()
    request_id: str | None = None
