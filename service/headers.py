"""Headers that keep a browser from doing with an answer what nobody meant."""

from collections.abc import Mapping
from types import MappingProxyType

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "Content-Security-Policy"

NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""For data: if a browser takes it for a page, it loads and runs nothing."""

POLICIES: Mapping[str, str] = MappingProxyType(
    {
        "text/html": f"{NOTHING}; style-src 'unsafe-inline'; img-src data:",
        "image/svg+xml": f"{NOTHING}; style-src 'unsafe-inline'; img-src data:",
    }
)
"""For reports and pictures, which bring their own styles."""

DOCS = f"{NOTHING}; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
connect-src 'self'"
"""For Swagger's page, which starts itself by a script of its own within the page."""


class SecurityHeaders:
    """Adds to every answer what it does not say itself. docs: the path of Swagger's page, and what is below."""

    def __init__(self, app: ASGIApp, docs: str) -> None:
        self._app = app
        self._docs = docs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "no-referrer")
                headers.setdefault("X-Frame-Options", "DENY")
                headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
                headers.setdefault(POLICY, self._policy(scope["path"], headers.get("content-type", "")))
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _policy(self, path: str, content_type: str) -> str:
        if path == self._docs or path.startswith(f"{self._docs}/"):
            return DOCS
        return POLICIES.get(content_type.partition(";")[0].strip(), NOTHING)
