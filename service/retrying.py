"""When a client sends a request again, and after how long."""

from http import HTTPStatus

import httpx

BACKOFF_SECONDS = 0.25
"""Before the first repetition; twice as long before each one that follows."""

MOST_SECONDS = 10.0
"""However long a server asks to be left alone."""

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""The request has not left, so that any may be sent again."""

LOST = (httpx.NetworkError, httpx.RemoteProtocolError)
"""It may have arrived. A server that lets one wait too long is not among these: it was given its time."""

BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def after_error(error: httpx.TransportError, attempt: int, *, repeatable: bool) -> float | None:
    """Seconds until the request is sent again; None: not at all.

    attempt: how often it was sent again before. repeatable: whether it does no harm if it arrives twice.
    """
    return _backoff(attempt) if isinstance(error, (*NOT_SENT, *LOST) if repeatable else NOT_SENT) else None


def after_answer(answer: httpx.Response, attempt: int, *, repeatable: bool) -> float | None:
    """The same after an answer: a server that is busy, or not ready, says when to come back."""
    if not repeatable or answer.status_code not in BUSY:
        return None
    asked = retry_after(answer)
    return _backoff(attempt) if asked is None else min(asked, MOST_SECONDS)


def retry_after(answer: httpx.Response) -> int | None:
    """The seconds that an answer names; None where it names none, or a date."""
    text = answer.headers.get("Retry-After", "")
    return int(text) if text.isdecimal() else None


def _backoff(attempt: int) -> float:
    return min(BACKOFF_SECONDS * 2.0**attempt, MOST_SECONDS)
