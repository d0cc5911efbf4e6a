"""API keys in Redis: made, listed, revoked and recognised, without ever being kept.

A key reads `palimpsest_<name>.<secret>`. Kept is the sha256 of all of it. A slow hash (bcrypt, argon2) makes guessing
costly where people choose passwords; a secret of 256 random bits cannot be guessed at any speed, and a slow hash would
cost every request what it is to cost a thief.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from redis import Redis

from service.contracts.access import ApiKey, Scope
from service.contracts.base import Contract
from service.errors import ProblemError, invalid, not_found

KEYS = "palimpsest-access:keys"
"""Hash: name -> KeptKey. It outlives every key, since revoked ones stay there; so it exists once keys are in use."""

USED = "palimpsest-access:used"
"""Hash: name -> the hour in which the key was last used."""

SECRET_BYTES = 32

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOKEN = re.compile(r"palimpsest_([A-Za-z0-9_-]{1,64})\.[A-Za-z0-9_-]{20,100}")


class KeptKey(Contract):
    """What is kept of a key under its name."""

    digest: str
    scope: Scope
    created_at: datetime
    revoked_at: datetime | None = None


class ApiKeys:
    """The keys of one Redis, for whoever operates it."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis

    def create(self, name: str, scope: Scope) -> str:
        """Make a key; it is told here and never again. 422 for a bad name, 409 for one that was used before."""
        if not _NAME.fullmatch(name):
            raise invalid("name", "must be 1 to 64 letters, digits, _ or -")
        token = f"palimpsest_{name}.{secrets.token_urlsafe(SECRET_BYTES)}"
        kept = KeptKey(digest=digest(token), scope=scope, created_at=datetime.now(UTC))
        if not self._redis.hsetnx(KEYS, name, kept.model_dump_json()):
            raise ProblemError(
                409,
                "key-exists",
                f"There is or was a key {name!r}. Names are never used again, so that the history stays unambiguous; "
                "choose another.",
            )
        return token

    def listed(self) -> Sequence[ApiKey]:
        """All keys that were ever made, the oldest first."""
        used = self._redis.hgetall(USED)
        kept = {name: KeptKey.model_validate_json(text) for name, text in self._redis.hgetall(KEYS).items()}
        shown = (
            ApiKey(name=name, last_used=used.get(name), **key.model_dump(exclude={"digest"}))
            for name, key in kept.items()
        )
        return sorted(shown, key=lambda key: (key.created_at, key.name))

    def revoke(self, name: str) -> None:
        """Let a key open nothing from now on; 404 if there is none. Twice is as good as once."""
        text = self._redis.hget(KEYS, name)
        if text is None:
            raise not_found(f"key {name!r}", "palimpsest keys list shows all keys.")
        kept = KeptKey.model_validate_json(text)
        if kept.revoked_at is None:
            revoked = kept.model_copy(update={"revoked_at": datetime.now(UTC)})
            self._redis.hset(KEYS, name, revoked.model_dump_json())

    def in_use(self) -> bool:
        """Whether a key was ever made."""
        return bool(self._redis.exists(KEYS))


def digest(token: str) -> str:
    """The sha256 under which a key is kept."""
    return hashlib.sha256(token.encode()).hexdigest()


def name_in(token: str) -> str | None:
    """The name that a key bears; None if it is none of ours."""
    match = _TOKEN.fullmatch(token)
    return match[1] if match else None


def recognised(token: str, kept: str | None) -> KeptKey | None:
    """The key that `token` is, from what is kept under its name; None if there is none, another, or a revoked one."""
    key = KeptKey.model_validate_json(kept) if kept is not None else None
    same = hmac.compare_digest(digest(token), key.digest if key else digest(""))
    return key if key is not None and same and key.revoked_at is None else None
