"""Who asks: every request but those for public paths is traced to a key, or to this machine, before it is read."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service import apikeys
from service.apikeys import KEYS, USED, ApiKeys
from service.claims import UpError
from service.contracts.access import MAKE_ONE
from service.contracts.access import Scope as Allows
from service.errors import ProblemError
from service.limits import Limits, network
from service.origin import ORIGIN
from service.problems import HANDLED, problem_response
from service.settings import Settings

LOCAL = "localhost"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caller:
    """Who asks. key: the name of the API key, None without; address: where the request comes from."""

    key: str | None
    allows: Allows
    address: str

    @property
    def label(self) -> str:
        """What requests are counted by."""
        return f"address {network(self.address)}" if self.key is None else f"key {self.key}"

    @property
    def unlimited(self) -> bool:
        """Whoever sits at this machine, and needs no key, is not held back either."""
        return self.key is None and is_loopback(self.address)


class Gate:
    """Tells who asks, and whether so much may be asked for.

    Keys are required once there is one, and wherever others than this machine can reach the API; `insecure` lifts the
    latter.
    """

    def __init__(self, redis: AsyncRedis, settings: Settings) -> None:
        self._redis: Any = redis
        self._always = not (settings.insecure or is_loopback(settings.host))
        self._insecure = settings.insecure
        self._origins = settings.cors_origins
        self._used: dict[str, str] = {}
        self.limits = Limits(redis, settings.rate, settings.burst, settings.max_concurrent)

    async def caller(self, headers: Headers, address: str) -> Caller:
        """Who asks; a 401 problem if he must show a key and does not, and 403 where a foreign page asks without one."""
        token = _bearer(headers)
        name = apikeys.name_in(token)
        kept, some = await self._kept(name)
        key = apikeys.recognised(token, kept)
        if key is not None and name is not None:
            await self._note(name)
            return Caller(name, key.scope, address)
        if self._always or some:
            await self.visited(address)
            raise no_key(given=bool(token))
        if not self._insecure:
            _refuse_relayed(headers, address)
            _refuse_foreign_pages(headers, self._origins)
        return Caller(None, Allows.ADMIN, address)

    async def visited(self, address: str) -> None:
        """Count a request for which nobody need say who he is."""
        caller = Caller(None, Allows.READ, address)
        if not caller.unlimited:
            await self.limits.take(caller.label)

    async def _kept(self, name: str | None) -> tuple[str | None, bool]:
        """What is kept under a key's name, and whether there is any key at all."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hget(KEYS, name or "")
        pipeline.exists(KEYS)
        kept, some = await pipeline.execute()
        return kept, bool(some)

    async def _note(self, name: str) -> None:
        """Keep the hour in which a key was used; a write once an hour, not with every request."""
        hour = datetime.now(UTC).strftime("%Y-%m-%dT%H:00:00Z")
        if self._used.get(name) != hour:
            self._used[name] = hour
            await self._redis.hset(USED, name, hour)


class Access:
    """Lets a request pass to public paths, and to all others with a caller who may ask for so much.

    public: paths, and with a / at the end whatever is below. counted: paths that are public too, and cost so much that
    no address may ask for them too often. Routes ask `scope["state"]["caller"]` what he may do.
    """

    def __init__(self, app: ASGIApp, public: Collection[str], counted: Collection[str]) -> None:
        self._app = app
        self._counted = frozenset(counted)
        self._paths = frozenset(public)
        self._below = tuple(path for path in public if path.endswith("/") and path != "/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or self._is_public(scope["path"]):
            await self._app(scope, receive, send)
            return
        gate: Gate = scope["state"]["services"].gate
        address = scope["client"][0] if scope.get("client") else LOCAL
        try:
            if scope["path"] in self._counted:
                await gate.visited(address)
                await self._app(scope, receive, send)
                return
            caller = await gate.caller(Headers(scope=scope), address)
            scope["state"]["caller"] = caller
            ORIGIN.set(replace(ORIGIN.get(), by=caller.key or ""))
            if caller.unlimited:
                await self._app(scope, receive, send)
                return
            await gate.limits.take(caller.label)
            with gate.limits.held(caller.label):
                await self._app(scope, receive, send)
        except HANDLED as error:
            await problem_response(error, scope["path"], scope["state"]["request_id"])(scope, receive, send)

    def _is_public(self, path: str) -> bool:
        return path in self._paths or path.startswith(self._below)


def refuse_open(settings: Settings, redis_url: str) -> None:
    """Raise UpError where others than this machine could ask without a key.

    A Redis that does not answer yet keeps nobody from starting: without it nobody is let in.
    """
    if settings.insecure or is_loopback(settings.host):
        return
    with Redis.from_url(redis_url, decode_responses=True, socket_timeout=5.0) as redis:
        try:
            some = ApiKeys(redis).in_use()
        except RedisError as error:
            _log.warning("Redis does not answer, so nobody is let in until it does: %s", type(error).__name__)
            return
    if not some:
        raise UpError(
            f"On {settings.host} others could reach the API, and there is no key that they would need. Make one first: "
            f"{MAKE_ONE}. Or listen on 127.0.0.1. Or say --insecure (PALIMPSEST_INSECURE=1), if whoever can reach it "
            "may do everything."
        )


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own; of names only one is sure to be."""
    try:
        return host == LOCAL or ip_address(host).is_loopback
    except ValueError:
        return False


def forbidden(needed: Allows, caller: Caller) -> ProblemError:
    """403: the key is good, but not for this."""
    return ProblemError(
        403,
        "scope-missing",
        f"This needs a key of scope {needed}; the key {caller.key!r} has {caller.allows}. Ask the operator for one.",
    )


def no_key(*, given: bool) -> ProblemError:
    """401: there is no key, or none that opens anything."""
    if given:
        return ProblemError(401, "key-refused", "This key is unknown or revoked. Ask the operator for a new one.")
    return ProblemError(
        401, "key-missing", f"Send an API key: Authorization: Bearer palimpsest_... The operator makes it: {MAKE_ONE}."
    )


def _bearer(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _refuse_relayed(headers: Headers, address: str) -> None:
    """Where no key is needed, whom a proxy at this machine asks for is not at this machine because of that."""
    told = ",".join([address, *headers.getlist("x-forwarded-for"), *headers.getlist("x-real-ip")])
    if "forwarded" in headers or not all(is_loopback(each.strip()) for each in told.split(",")):
        raise ProblemError(
            403,
            "host-refused",
            "A proxy asks this for somebody else, and without keys only this machine is answered. Make a key: "
            f"{MAKE_ONE}. Or start it with --insecure, if the proxy asks who it is.",
        )


def _refuse_foreign_pages(headers: Headers, origins: Collection[str]) -> None:
    """Where no key is needed, a page from elsewhere in the browser of this machine could ask in its owner's name.

    It gives itself away by its origin, or by what the browser says of it; or, where its name was made to point to this
    machine, by the host it asks for.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    name = _hostname(f"//{host}")
    if not (is_loopback(name) or name.endswith(f".{LOCAL}")):
        raise ProblemError(
            403,
            "host-refused",
            "Without keys only this machine is answered, by the name localhost or its address. Make a key: "
            f"{MAKE_ONE}. Or start it with --insecure, if something before it asks who it is.",
        )
    if _is_foreign(headers) if origin is None else origin not in origins and _place(origin) != host:
        raise ProblemError(
            403,
            "origin-refused",
            "Pages from elsewhere may not ask. Name their origin in PALIMPSEST_CORS_ORIGINS, if they should.",
        )


def _is_foreign(headers: Headers) -> bool:
    """Whether a picture, a script or a link of a page from elsewhere asks; a link of another port here may."""
    site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
    return site == "cross-site" or (site == "same-site" and mode != "navigate")


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
