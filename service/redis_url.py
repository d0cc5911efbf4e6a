"""A Redis' URL, checked before anybody connects: who finds it wrong later would tell half of the password."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

WANTED = (
    "must read redis://:PASSWORD@HOST:PORT/0, or rediss:// for TLS, or unix://. In a password write %2F for /, "
    "%3F for ?, %23 for # and %40 for @."
)


def sound_url(value: str) -> str:
    """The same URL; raises ValueError, which says nothing of what was given, if it does not say where a Redis is."""
    if not _is_sound(value):
        raise ValueError(WANTED)
    return value


def _is_sound(value: str) -> bool:
    from redis.connection import parse_url  # noqa: PLC0415 - whoever only asks a server starts without Redis' client

    try:
        parse_url(value)  # type: ignore[no-untyped-call]
        parts = urlsplit(value)
    except (ValueError, TypeError):
        return False
    database = parts.path.removeprefix("/")
    # the client takes no notice of either, but a password with a / or a # in it ends there
    return not parts.fragment and (parts.scheme == "unix" or not database or database.isdecimal())


RedisUrl = Annotated[str, AfterValidator(sound_url)]
"""Where a Redis is, and its password."""
