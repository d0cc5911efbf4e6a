"""What happens to every request, whatever it asks for: an id, the head's number, limits on the body, no traceback."""

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections.abc import Container

from redis.exceptions import RedisError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.contracts.access import Scope as Allows
from service.origin import ORIGIN, Origin
from service.problems import problem_response

REQUEST_ID = "X-Request-Id"
REVISION = "X-Model-Revision"

HEAD_SECONDS = 0.25
"""How long an answer waits for the head's number before it goes without."""

READERS_BYTES = 2_000_000
"""Of a body of somebody who may only read: no prompts that a model takes are as long."""

LINGER_SECONDS = 5.0
"""How long a refused body is read on, so that its sender sees the refusal and not a reset connection."""

BODILESS = ("GET", "HEAD", "DELETE")
"""Methods whose bodies nobody reads; what is waited for is that the client leaves."""

PLAIN = {"Accept-Encoding": "identity"}
"""What a refused encoding is answered with (RFC 9110, section 12.5.3)."""

_log = logging.getLogger(__name__)


class RequestContext:
    """Gives every answer an X-Request-Id, those of `resources` an X-Model-Revision, and defects a clean 500."""

    def __init__(self, app: ASGIApp, resources: Container[str]) -> None:
        self._app = app
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get(REQUEST_ID, ""))
        scope.setdefault("state", {})["request_id"] = request_id
        ORIGIN.set(Origin(request_id, ORIGIN.get().traceparent))
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                if REVISION not in headers and (head := await self._head(scope)) is not None:
                    headers[REVISION] = str(head)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            return
        except Exception as error:
            _log.exception("request %s failed: %s %s", request_id, scope["method"], scope["path"])
            if started:
                raise
            await problem_response(error, scope["path"], request_id)(scope, receive, send_with_headers)

    async def _head(self, scope: Scope) -> int | None:
        if scope["path"].removeprefix("/").split("/")[0] not in self._resources:
            return None
        with contextlib.suppress(RedisError, TimeoutError):
            async with asyncio.timeout(HEAD_SECONDS):
                head: int | None = await scope["state"]["services"].head()
                return head
        return None


def _request_id(given: str) -> str:
    return given if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", given) else secrets.token_hex(8)


class BodyLimit:
    """Refuses bodies of more than `max_bytes` (413), before they are read where their length is declared.

    Of those who may not edit, bodies of more than READERS_BYTES: to take a body apart holds up everybody.

    And bodies that are compressed (415): a few bytes of those may be as many as one likes. Where nobody reads a body,
    what comes beyond the limit is dropped; the connection is closed when that has gone on for too long.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        read = 0
        most = self._most(scope)
        refused = _declared(headers, most)

        async def limited_receive() -> Message:
            nonlocal read, refused
            message = await receive()
            read += len(message.get("body", b""))
            if read <= most:
                return message
            if scope["method"] in BODILESS:
                return {**message, "body": b""}
            refused = _too_large(most)
            raise refused

        async def lingering_send(message: Message) -> None:
            if refused is None or message["type"] != "http.response.body" or "expect" in headers:
                await send(message)
                return
            await send({**message, "more_body": True})
            await _drain(receive)
            await send({"type": "http.response.body"})

        if refused is None:
            await self._app(scope, limited_receive, lingering_send)
            return
        # Also where nobody would read the body: what looks out for the client's leaving meets it all the same.
        answer = problem_response(refused, scope["path"], scope["state"]["request_id"])
        await answer(scope, receive, lingering_send)

    def _most(self, scope: Scope) -> int:
        caller = scope["state"].get("caller")
        edits = caller is not None and caller.allows.includes(Allows.EDIT)
        return self._max_bytes if edits else min(self._max_bytes, READERS_BYTES)


def _declared(headers: Headers, most: int) -> HTTPException | None:
    length = headers.get("content-length", "")
    declared = int(length) if length.isdecimal() else 0
    encoded = headers.get("content-encoding", "").strip().lower() not in ("", "identity")
    if encoded and (declared or "transfer-encoding" in headers):
        return HTTPException(415, "Send the body as it is, without a Content-Encoding.", PLAIN)
    return _too_large(most) if declared > most else None


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"The body has more than {most} bytes; send a smaller one.")


async def _drain(receive: Receive) -> None:
    until = time.monotonic() + LINGER_SECONDS
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while time.monotonic() < until:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
