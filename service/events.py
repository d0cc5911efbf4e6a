"""Server-sent events as a client reads them."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Event(NamedTuple):
    """One event: its name, `message` where it has none, and its data."""

    name: str
    data: str


def parse_events(chunks: Iterable[str]) -> Iterator[Event]:
    """The events of a stream, however it is cut into chunks; one that the connection cut short is dropped."""
    name, data = "", list[str]()
    for line in _lines(chunks):
        field, _, value = line.partition(":")
        if not line:
            if data:
                yield Event(name or "message", "\n".join(data))
            name, data = "", []
        elif field == "event":
            name = value.removeprefix(" ")
        elif field == "data":
            data.append(value.removeprefix(" "))


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    """Whole lines. str.splitlines would end them at characters too that may stand in JSON, such as U+2028."""
    rest = ""
    for chunk in chunks:
        # A carriage return at the end may be half of a line's end.
        *lines, rest = re.split(r"\r\n|\n|\r(?!\Z)", rest + chunk)
        yield from lines
